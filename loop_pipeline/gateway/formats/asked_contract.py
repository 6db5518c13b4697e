"""The contract that a request brings along: JSON, and JSON of one schema.

Not here: checking an answer (``answers/contract.py``), and contracts registered for a task.
"""

from __future__ import annotations

from typing import Any

from loop_pipeline.answers.json_schema import TYPES, UnsupportedContract, check_schema

# Deeper schemas are left to the frontier: checking one must not exhaust the stack.
MAX_DEPTH = 50

_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_LIMITS = ("minimum", "maximum")

# ``pattern``: a client's regular expression can take years on one answer. ``format``: our check
# takes it for a remark, OpenAI keeps it.
_LEFT_TO_THE_FRONTIER = ("pattern", "format")


def json_contract(schema: Any) -> dict[str, Any] | None:
    """The contract "JSON of this schema"; None if answers cannot be checked for it here."""
    if not _is_checkable(schema):
        return None
    try:
        check_schema(schema)
    except UnsupportedContract:
        return None
    return {"kind": "json", "schema": schema}


def any_json() -> dict[str, Any]:
    """The contract "a JSON object"."""
    return {"kind": "json", "schema": {"type": "object"}}


def _is_checkable(schema: Any, depth: int = 0) -> bool:
    """Whether every keyword has a value that checking can work with.

    ``check_schema`` trusts its schema: the pipeline's own are written by hand. This one came in a
    request.
    """
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return False
    if any(word in schema for word in _LEFT_TO_THE_FRONTIER):
        return False
    if not (_good_types(schema) and _good_limits(schema) and _good_names(schema)):
        return False
    parts = schema.get("properties", {})
    if not isinstance(parts, dict):
        return False
    inner = [*parts.values(), *([schema["items"]] if "items" in schema else [])]
    return all(_is_checkable(part, depth + 1) for part in inner)


def _good_types(schema: dict[str, Any]) -> bool:
    wanted = schema.get("type", [])
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list) or ("type" in schema and not names):
        return False
    return all(isinstance(name, str) and name in TYPES for name in names)


def _good_limits(schema: dict[str, Any]) -> bool:
    counts = (schema[word] for word in _COUNTS if word in schema)
    limits = (schema[word] for word in _LIMITS if word in schema)
    return all(type(n) is int for n in counts) and all(type(n) in (int, float) for n in limits)


def _good_names(schema: dict[str, Any]) -> bool:
    names = schema.get("required", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    more = schema.get("additionalProperties", True)
    return isinstance(more, bool) and isinstance(schema.get("enum", []), list)
