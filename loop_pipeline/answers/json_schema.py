"""Checks a JSON value against the part of JSON Schema that contracts may use.

Not here: the other kinds of contract (``contract.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import regex

from loop_pipeline.answers.pattern_size import MOST_PARTS, pattern_size

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
CHECKED = {
    *("type", "enum", "const", "required", "properties", "additionalProperties", "items"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"),
}
REMARKS = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "format"}
BOUNDS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
# Of all patterns of one answer together: it is checked while somebody waits, and a pattern such as
# (a|aa)+$ would take for ever.
PATTERNS_S = 0.05
# A longer pattern could take as long to read as a slow one to match.
PATTERN_CHARS = 2000


class UnsupportedContract(ValueError):
    """The contract asks for something that is not checked here, or cannot be read."""


def check_schema(schema: Any, at: str = "$") -> None:
    """Refuse a JSON schema that asks for more than is checked here, or that is none.

    Raises:
        UnsupportedContract: names the keyword and where it stands.
    """
    if not isinstance(schema, Mapping):
        raise UnsupportedContract(f"JSON schema: what stands at {at} is not an object")
    unknown = sorted(str(name) for name in schema.keys() - CHECKED - REMARKS)
    if unknown or schema.get("additionalProperties") not in (None, True, False):
        name = unknown[0] if unknown else "additionalProperties as a schema"
        raise UnsupportedContract(f"JSON schema: {name!r} at {at} is not checked; leave it out")
    for name in sorted(schema.keys() & CHECKED):
        if not _readable(name, schema[name]):
            raise UnsupportedContract(f"JSON schema: {name!r} at {at} cannot be read; correct it")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{at}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{at}[]")


def _readable(name: str, value: Any) -> bool:
    """Whether a keyword that is checked has a value of its kind."""
    if name == "type":
        names = value if isinstance(value, list) else [value]
        return all(isinstance(one, str) and one in TYPES for one in names)
    if name == "required":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "enum":
        return isinstance(value, list)
    if name == "properties":
        return isinstance(value, Mapping)
    if name == "pattern":
        return isinstance(value, str) and _compiled(value) is not None
    if name in BOUNDS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> regex.Pattern[str] | None:
    """A pattern ready to be matched; None if it is none, or too long to be read in time."""
    if len(pattern) > PATTERN_CHARS or pattern_size(pattern) > MOST_PARTS:
        return None
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, ValueError, OverflowError):
        return None


def schema_violations(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Where a value breaks a schema that ``check_schema`` let pass; empty if it keeps it."""
    try:
        return _violations(value, schema, "$", time.monotonic() + PATTERNS_S)
    except RecursionError:
        return ["it is nested too deep to be checked"]


def _violations(value: Any, schema: Mapping[str, Any], at: str, until: float) -> list[str]:
    if "type" in schema and not _has_type(value, schema["type"]):
        return [f"{at} is not of type {schema['type']}"]
    found = []
    if "enum" in schema and not any(_same(value, v) for v in schema["enum"]):
        found.append(f"{at} is {short(value)}, not one of the allowed values")
    if "const" in schema and not _same(value, schema["const"]):
        found.append(f"{at} is not {short(schema['const'])}")
    if isinstance(value, dict):
        return found + _object_violations(value, schema, at, until)
    if isinstance(value, list):
        found += _outside(len(value), schema, "minItems", "maxItems", f"{at} items")
        if part := schema.get("items"):
            for i, one in enumerate(value):
                found += _violations(one, part, f"{at}[{i}]", until)
        return found
    return found + _scalar_violations(value, schema, at, until)


def _scalar_violations(value: Any, schema: Mapping[str, Any], at: str, until: float) -> list[str]:
    if isinstance(value, str):
        found = _outside(len(value), schema, "minLength", "maxLength", f"{at} length")
        return found + _unmatched(value, schema.get("pattern"), at, until)
    if isinstance(value, bool) or value is None:
        return []
    return _outside(value, schema, "minimum", "maximum", at)


def _unmatched(value: str, pattern: str | None, at: str, until: float) -> list[str]:
    if pattern is None:
        return []
    compiled, left = _compiled(pattern), until - time.monotonic()
    try:
        if compiled is not None and left > 0 and compiled.search(value, timeout=left):
            return []
    except TimeoutError:
        left = 0
    shown = pattern if len(pattern) <= 60 else pattern[:57] + "..."
    return [f"{at} does not match {shown}" + (" in time" if left <= 0 else "")]


def _object_violations(
    value: dict[str, Any], schema: Mapping[str, Any], at: str, until: float
) -> list[str]:
    parts = schema.get("properties", {})
    found = [f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value]
    for name, part in value.items():
        if name in parts:
            found += _violations(part, parts[name], f"{at}.{name}", until)
        elif schema.get("additionalProperties") is False:
            found.append(f"{at}.{name} is not a field of the schema")
    return found


def _outside(value: float, schema: Mapping[str, Any], low: str, high: str, at: str) -> list[str]:
    if value < schema.get(low, value):
        return [f"{at} is {value}, below {schema[low]}"]
    return [f"{at} is {value}, above {schema[high]}"] if value > schema.get(high, value) else []


def _has_type(value: Any, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(value, bool):  # bool is an int in Python, not in JSON
        return "boolean" in names
    if isinstance(value, float) and value.is_integer() and "integer" in names:
        return True
    return any(isinstance(value, TYPES[name]) for name in names)


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def short(value: Any) -> str:
    """A value as a reason shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
