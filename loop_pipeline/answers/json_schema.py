"""Checks a JSON value against the JSON schema of a contract: the library jsonschema, within bounds.

Not here: what such a check may cost (``schemas/bounded_schema.py``); the JSON in an answer
(``forms/bare_json.py``); the other kinds of contract (``contract.py``).

A schema may come with anybody's request: nothing is fetched, all work is bounded, and what leads
in a circle or says nothing that is known is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

from jsonschema import Draft4Validator, Draft7Validator, Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import validator_for
from referencing import Registry, Resource, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from loop_pipeline.answers.schemas.bounded_schema import TooMuchWork, bounded, compiled, short, work
from loop_pipeline.answers.schemas.schema_formats import FORMATS
from loop_pipeline.answers.schemas.schema_words import REMARKS, beside, parts, readable

# A schema that says nothing of its draft is read as the newest, else as those that older tools
# write (Pydantic 1, OpenAPI 3.0).
DRAFTS = (Draft202012Validator, Draft7Validator, Draft4Validator)
# "Whatever there is" and "nothing", where people write it; elsewhere it is an oversight.
MAY_BE_BOOLEAN = (".additionalProperties", ".additionalItems", "[]", ".unevaluatedProperties")
# A longer schema costs more to read than a request may; none that was seen comes near it.
SCHEMA_CHARS = 200_000
# Deeper schemas and values exhaust the stack.
MAX_DEPTH = 50


class UnsupportedContract(ValueError):
    """The contract asks for something that is not checked here, or cannot be read."""


class _Prepared(NamedTuple):
    """A schema ready to check values, or why it is not; the keywords it uses."""

    validator: Any
    problem: str
    used: frozenset[str]


def check_schema(schema: Any) -> frozenset[str]:
    """Refuse a JSON schema that is none, or that asks for what is not checked here.

    Returns:
        The keywords that it uses, wherever they stand.

    Raises:
        UnsupportedContract: says what to correct, and where it stands.
    """
    return _ready(schema).used


def schema_violations(value: Any, schema: Any) -> list[str]:
    """Where a value breaks a schema; empty if it keeps it.

    Raises:
        UnsupportedContract: the schema cannot be read, or a value cannot be held against it.
    """
    validator = _ready(schema).validator
    if _depth(value) > MAX_DEPTH:
        return ["it is nested too deep to be checked"]
    try:
        with work():
            return [_worded(error) for error in validator.iter_errors(value)]
    except RecursionError:
        problem = "its references lead too deep"
    except TooMuchWork:
        problem = "to hold an answer against it takes too long"
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error!s:.200}"
    raise UnsupportedContract(f"JSON schema: {problem}; correct it")


def _ready(schema: Any) -> _Prepared:
    if not isinstance(schema, Mapping):
        raise UnsupportedContract("JSON schema: what stands at $ is not an object")
    try:
        written = json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedContract(f"JSON schema: it is no JSON ({error!s:.100})") from None
    if len(written) > SCHEMA_CHARS:
        raise UnsupportedContract(
            f"JSON schema: it has {len(written)} characters, {SCHEMA_CHARS} are read"
        )
    prepared = _prepared(written)
    if prepared.problem:
        raise UnsupportedContract(f"JSON schema: {prepared.problem}")
    return prepared


@lru_cache(maxsize=256)
def _prepared(written: str) -> _Prepared:
    """Read a schema once: to look at its every keyword takes longer than to check an answer."""
    schema = json.loads(written)
    declared = schema.get("$schema")
    # A draft that nobody knows is none.
    unknown: Any = None
    named = validator_for(schema, default=unknown) if isinstance(declared, str) else None
    tried = [_tried(draft, schema) for draft in (DRAFTS if named is None else (named,))]
    return next((one for one in tried if not one.problem), tried[0])


def _tried(draft: Any, schema: dict[str, Any]) -> _Prepared:
    try:
        return _prepared_as(draft, schema)
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
        # Of the library, on what is no schema: an id that is no text, and the like.
        problem = f"it cannot be read ({error!s:.100}); correct it"
        return _Prepared(None, problem, frozenset())


def _prepared_as(draft: Any, schema: dict[str, Any]) -> _Prepared:
    root = Resource(schema, _specification(draft))
    registry: Registry[Any] = Registry().with_resource("", root)
    used: set[str] = set()
    walk = _Walk(draft, _specification(draft), used, {})
    problem = next(walk.problems(schema, "$", registry.resolver_with_root(root)), "")
    if not problem:
        problem = walk.circle()
    if not problem and {"unevaluatedProperties", "patternProperties"} <= used:
        problem = "'unevaluatedProperties' beside patterns is not checked; leave it out"
    validator = bounded(draft)(schema, registry=registry, format_checker=FORMATS)
    return _Prepared(validator, problem, frozenset(used))


def _specification(draft: Any) -> Specification[Any]:
    return specification_with(draft.META_SCHEMA.get("$schema", ""))


class _Walk(NamedTuple):
    """Goes through all schemas inside a schema of one draft, and notes the keywords it meets."""

    draft: Any
    specification: Specification[Any]
    used: set[str]
    same: dict[int, list[int]]
    """For each schema those that are held against the same value as it is."""

    def circle(self) -> str:
        """Whether a schema comes back to itself before any part of a value is looked at."""
        try:
            TopologicalSorter(self.same).prepare()
        except CycleError:
            return "its references lead in a circle; correct it"
        return ""

    def problems(self, schema: Any, at: str, resolver: Any, depth: int = 0) -> Iterator[str]:
        """What is not checked here, or leads nowhere, with where it stands."""
        if isinstance(schema, bool) and at.endswith(MAY_BE_BOOLEAN):
            return
        if not isinstance(schema, dict):
            yield f"what stands at {at} is not an object; correct it"
            return
        if depth > MAX_DEPTH:
            yield "it is nested too deep; correct it"
            return
        self.used.update(schema)
        resolver = resolver.in_subresource(Resource(schema, self.specification))
        for name in sorted(schema):
            known = name in self.draft.VALIDATORS or name in REMARKS or name.startswith("x-")
            if not known:
                yield f"{name!r} at {at} is not checked; leave it out"
            elif not readable(self.draft, name, schema[name]):
                yield f"{name!r} at {at} cannot be read; correct it"
        self.same[id(schema)] = [id(part) for part in beside(schema)]
        yield from _unread(schema, at)
        yield from self._references(schema, at, resolver)
        for inner, part in parts(schema, at):
            yield from self.problems(part, inner, resolver, depth + 1)

    def _references(self, schema: dict[str, Any], at: str, resolver: Any) -> Iterator[str]:
        """References that nothing stands behind."""
        for name in ("$ref", "$dynamicRef", "$recursiveRef"):
            if isinstance(target := schema.get(name), str):
                try:
                    found = resolver.lookup(target).contents
                    self.same[id(schema)].append(id(found))
                except Unresolvable:
                    yield f"{name} {short(target)} at {at} leads nowhere: nothing is fetched"


def _unread(schema: dict[str, Any], at: str) -> Iterator[str]:
    """Patterns that are none."""
    patterns = [schema.get("pattern")]
    if isinstance(named := schema.get("patternProperties"), dict):
        patterns += list(named)
    if any(isinstance(one, str) and compiled(one) is None for one in patterns):
        yield f"'pattern' at {at} cannot be read; correct it"


def _depth(value: Any) -> int:
    """How deep a value that was read from JSON is nested; no deeper than matters here."""
    level, inner = 0, [value]
    while inner and level <= MAX_DEPTH:
        level += 1
        inner = [
            part
            for one in inner
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
    return level


def _worded(error: ValidationError) -> str:
    """What is wrong with a value, in few words; the library's repeat the whole value."""
    at, wanted, given = error.json_path, error.validator_value, short(error.instance)
    said = {
        "type": f"is not of type {wanted}",
        "enum": f"is {given}, not one of the allowed values",
        "const": f"is not {short(wanted)}",
        "minimum": f"is {given}, below {wanted}",
        "maximum": f"is {given}, above {wanted}",
        "exclusiveMinimum": f"is {given}, not above {wanted}",
        "exclusiveMaximum": f"is {given}, not below {wanted}",
        "format": f"is {given}, no {wanted}",
        "anyOf": "fits none of the forms that are allowed",
        "oneOf": "does not fit exactly one of the forms that are allowed",
    }.get(str(error.validator))
    if said is None and error.validator in ("minLength", "maxLength", "minItems", "maxItems"):
        side = "below" if str(error.validator).startswith("min") else "above"
        what = "length" if isinstance(error.instance, str) else "items"
        said = f"{what} is {len(error.instance)}, {side} {wanted}"  # type: ignore[arg-type]
    return (
        f"{at} {said or error.message}"
        if len(error.message) <= 120 or said
        else (f"{at} does not keep {error.validator!r}")
    )
