"""The keywords of a JSON schema: which are only remarks, which hold schemas, what they take.

Not here: reading a whole schema (``json_schema.py``), checking values (``bounded_schema.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

from jsonschema_specifications import REGISTRY

from loop_pipeline.answers.schemas.bounded_schema import bounded, work

# Values of keywords that are longer are seldom met twice.
KEPT_CHARS = 200
# Keywords that say nothing about a value, or are read by another keyword.
REMARKS = frozenset(
    {
        *("title", "description", "default", "examples", "example", "deprecated", "readOnly"),
        *("writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "discriminator"),
        *("nullable", "externalDocs", "xml", "$schema", "$id", "id", "$comment", "$anchor"),
        *("$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "$defs", "definitions"),
        *("then", "else", "minContains", "maxContains", "exclusiveMinimum", "exclusiveMaximum"),
    }
)
# Where schemas stand inside a schema: one, several, or one by name.
ONE = frozenset(
    {
        *("items", "additionalItems", "contains", "additionalProperties", "propertyNames", "not"),
        *("if", "then", "else", "unevaluatedItems", "unevaluatedProperties"),
    }
)
SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
NAMED = frozenset(
    {
        *("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"),
        "dependencies",
    }
)


def parts(schema: dict[str, Any], at: str) -> Iterator[tuple[str, Any]]:
    """The schemas inside a schema, each with where it stands."""
    for name, value in schema.items():
        if name in SEVERAL and isinstance(value, list):
            yield from ((f"{at}[{place}]", part) for place, part in enumerate(value))
        elif name in NAMED and isinstance(value, dict):
            yield from (
                (f"{at}.{key}", part) for key, part in value.items() if not isinstance(part, list)
            )
        elif name in ONE:
            yield (f"{at}[]" if name == "items" else f"{at}.{name}"), value


def beside(schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas inside a schema that are held against the same value as it is."""
    for name in ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"):
        inner = schema.get(name)
        if isinstance(inner, list):
            yield from inner
        elif name == "dependentSchemas" and isinstance(inner, dict):
            yield from inner.values()
        elif isinstance(inner, dict):
            yield inner


def readable(draft: Any, name: str, value: Any) -> bool:
    """Whether a keyword has a value of its kind; schemas inside it are not looked at."""
    if name in NAMED:
        return isinstance(value, dict)
    if name in SEVERAL and isinstance(value, list):
        return bool(value) and (name != "items" or "prefixItems" not in draft.VALIDATORS)
    if name in ONE or name not in draft.VALIDATORS:
        return True
    written = json.dumps(value)
    if len(written) > KEPT_CHARS:
        return _fits.__wrapped__(draft, name, written)
    return _fits(draft, name, written)


@lru_cache(maxsize=2048)
def _fits(draft: Any, name: str, written: str) -> bool:
    """Whether the draft's own schema takes a keyword's value; at once they take seconds."""
    if (where := _defined(draft).get(name)) is None:
        return True
    reader = bounded(draft)({"$ref": f"{where}#/properties/{name}"}, registry=REGISTRY)
    with work():
        return reader.is_valid(json.loads(written))


@lru_cache(maxsize=8)
def _defined(draft: Any) -> Mapping[str, str]:
    """Where a draft says what its keywords take: in its own schema, or in parts of that."""
    whole = draft.META_SCHEMA["$schema"].rstrip("#")
    inside = [urljoin(whole, part["$ref"]) for part in draft.META_SCHEMA.get("allOf", [])]
    return {
        name: where for where in (whole, *inside) for name in _properties(REGISTRY.contents(where))
    }


def _properties(schema: Any) -> Mapping[str, Any]:
    return schema.get("properties", {})
