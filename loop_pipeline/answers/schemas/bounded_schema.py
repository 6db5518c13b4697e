"""What checking a value against a JSON schema may cost, and the keywords that are checked for that.

Not here: reading a schema, and saying what is wrong with a value (``json_schema.py``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from loop_pipeline.answers.pattern_size import MOST_PARTS, pattern_size

# Of all patterns of one answer together, in time of the processor: it is checked while somebody
# waits, and a pattern such as (a|aa)+$ would take for ever.
PATTERNS_S = 0.05
# A longer pattern could take as long to read as a slow one to match.
PATTERN_CHARS = 2000
# Keywords that are looked at for one answer, at most about 0.3 s. Steps are counted, not seconds:
# a busy machine must not judge otherwise than an idle one.
STEPS = 40_000
# What following a reference costs beside any other keyword.
REFERENCE_STEPS = 20

Keyword = Callable[[Any, Any, Any, Any], Any]


class TooMuchWork(Exception):
    """More keywords had to be looked at than one answer is worth."""


@dataclass
class _Work:
    """What is left for one answer."""

    steps: int
    pattern_s: float = PATTERNS_S


_WORK: ContextVar[_Work] = ContextVar("work")


@contextmanager
def work(steps: int = STEPS) -> Iterator[None]:
    """Everything inside belongs to one answer and shares its bounds."""
    token = _WORK.set(_Work(steps))
    try:
        yield
    finally:
        _WORK.reset(token)


@lru_cache(maxsize=8)
def bounded(draft: Any) -> Any:
    """A draft's validator that counts its work and never fetches, or waits for a pattern."""
    own: dict[str, Keyword] = {
        "type": _nullable(draft.VALIDATORS["type"]),
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "required": _required,
    }
    keywords = {**draft.VALIDATORS, **own}
    made = extend(draft, {name: _counted(name, one) for name, one in keywords.items()})
    made.evolve = _staying(made.evolve)
    return made


def _staying(evolve: Callable[..., Any]) -> Callable[..., Any]:
    """The library goes over to the class that a part's ``$schema`` names, which has no bounds."""

    def own(validator: Any, **changes: Any) -> Any:
        schema = changes.get("schema")
        if isinstance(schema, dict) and "$schema" in schema:
            changes["schema"] = {k: v for k, v in schema.items() if k != "$schema"}
        return evolve(validator, **changes)

    return own


def _counted(name: str, keyword: Keyword) -> Keyword:
    cost = REFERENCE_STEPS if name in ("$ref", "$dynamicRef", "$recursiveRef") else 1

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _WORK.get()
        left.steps -= cost
        if left.steps < 0:
            raise TooMuchWork
        return keyword(validator, value, instance, schema)

    return counted


def _nullable(type_of: Keyword) -> Keyword:
    """``nullable`` beside a type, as OpenAPI 3.0 has it."""

    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        if instance is None and schema.get("nullable") is True:
            return None
        return type_of(validator, value, instance, schema)

    return keyword


@lru_cache(maxsize=256)
def compiled(pattern: str) -> regex.Pattern[str] | None:
    """A pattern ready to be matched; None if it is none, or too long to be read in time."""
    if len(pattern) > PATTERN_CHARS or pattern_size(pattern) > MOST_PARTS:
        return None
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, ValueError, OverflowError):
        return None


def _found(pattern: str, text: str) -> bool | None:
    """Whether a pattern is found in a text; None: not in time."""
    left, ready = _WORK.get(), compiled(pattern)
    if ready is None or left.pattern_s <= 0:
        return None
    start = time.thread_time()
    try:
        return ready.search(text, timeout=left.pattern_s) is not None
    except TimeoutError:
        left.pattern_s = 0
        return None
    finally:
        left.pattern_s -= time.thread_time() - start


def _pattern(_: Any, pattern: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    if not (found := _found(pattern, instance)):
        shown = pattern if len(pattern) <= 60 else pattern[:57] + "..."
        late = " in time" if found is None else ""
        yield ValidationError(f"does not match {shown}{late}")


def _pattern_properties(
    validator: Any, patterns: Any, instance: Any, _: Any
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, part in patterns.items():
        for name, value in instance.items():
            found = _found(pattern, name)
            if found is None:
                yield ValidationError(f"has a name that does not match {short(pattern)} in time")
            elif found:
                yield from validator.descend(value, part, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, part: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in named or any(_found(pattern, name) for pattern in patterns):
            continue
        if part is False:
            yield ValidationError(f"has {short(name)}, which is not a field of the schema")
        else:
            yield from validator.descend(value, part, path=name)


def _unique_items(_: Any, unique: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    if not unique or not isinstance(instance, list):
        return
    seen = {json.dumps(_whole(one), sort_keys=True) for one in instance}
    if len(seen) < len(instance):
        yield ValidationError("holds something twice")


def _whole(value: Any) -> Any:
    """1.0 as 1, for JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(part) for name, part in value.items()}
    return [_whole(part) for part in value] if isinstance(value, list) else value


def _required(_: Any, names: Any, instance: Any, __: Any) -> Iterator[ValidationError]:
    # In draft 3 and before, and where people err, it is no list.
    if isinstance(instance, dict) and isinstance(names, list):
        yield from (
            ValidationError(f"lacks {short(name)}") for name in names if name not in instance
        )


def short(value: Any) -> str:
    """A value as a reason shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
