"""Does an answer keep its contract? Deterministic: no statistics, no model.

Not here: what a text rests on (``labels/hallucination``).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from loop_pipeline.answers.facts import unsupported_facts

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


class UnsupportedContract(ValueError):
    """The contract asks for something that is not checked here."""


def check_contract(output: str, contract: dict[str, Any] | None, request_text: str) -> list[str]:
    """Reasons why an answer breaks its contract; empty if it keeps it.

    Labels and tags are compared without regard to case and spacing, like agreement is. Texts may
    only hold numbers, ids, URLs and e-mail addresses that occur in the request.

    Args:
        output: the answer.
        contract: label, tags, json or text (see ``ContractRow``); None: nothing to break.
        request_text: everything the answer may rest on: messages and context.

    Raises:
        UnsupportedContract: unknown kind, or a JSON schema keyword that is not checked.
    """
    if contract is None:
        return []
    kind = contract.get("kind")
    if kind == "label":
        known = _label_set(tuple(contract["labels"]))
        return [] if _plain(output) in known else [f"label {_short(output)} is not in the set"]
    if kind == "tags":
        return _check_tags(output, _label_set(tuple(contract["labels"])))
    if kind == "json":
        return _check_json(output, contract["schema"])
    if kind == "text":
        return _check_text(output, contract.get("max_words"), request_text)
    raise UnsupportedContract(
        f"contract kind {kind!r} is not one of label, tags, json, text; correct the contract"
    )


@lru_cache(maxsize=256)
def _label_set(labels: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_plain(label) for label in labels)


def _check_tags(output: str, known: frozenset[str]) -> list[str]:
    tags = [_plain(tag) for tag in output.split(",")]
    if tags == ["none"]:
        return []
    reasons = [f"tag {_short(tag)} is not in the set" for tag in tags if tag not in known]
    twice = sorted({tag for tag in tags if tags.count(tag) > 1})
    return reasons + [f"tag {_short(tag)} is given twice" for tag in twice]


def _check_text(output: str, max_words: int | None, request_text: str) -> list[str]:
    if not output.strip():
        return ["the answer is empty"]
    words = len(output.split())
    facts = unsupported_facts(output, request_text)
    reasons = [f"{_short(fact)} is not in the request" for fact in facts]
    if max_words is not None and words > max_words:
        reasons.append(f"{words} words, {max_words} are allowed")
    return reasons


def _check_json(output: str, schema: dict[str, Any]) -> list[str]:
    check_schema(schema)
    try:
        value = json.loads(output, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        return [f"not JSON: {error}"]
    return _violations(value, schema, "$")


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def check_schema(schema: dict[str, Any], at: str = "$") -> None:
    """Refuse a JSON schema that asks for more than is checked here.

    Raises:
        UnsupportedContract: names the keyword and where it stands.
    """
    unknown = sorted(schema.keys() - CHECKED - REMARKS)
    if unknown or schema.get("additionalProperties") not in (None, True, False):
        name = unknown[0] if unknown else "additionalProperties as a schema"
        raise UnsupportedContract(f"JSON schema: {name!r} at {at} is not checked; leave it out")
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{at}.{name}")
    if "items" in schema:
        check_schema(schema["items"], f"{at}[]")


def _violations(value: Any, schema: dict[str, Any], at: str) -> list[str]:
    if "type" in schema and not _has_type(value, schema["type"]):
        return [f"{at} is not of type {schema['type']}"]
    found = []
    if "enum" in schema and not any(_same(value, v) for v in schema["enum"]):
        found.append(f"{at} is {_short(value)}, not one of the allowed values")
    if "const" in schema and not _same(value, schema["const"]):
        found.append(f"{at} is not {_short(schema['const'])}")
    if isinstance(value, dict):
        return found + _object_violations(value, schema, at)
    if isinstance(value, list):
        found += _outside(len(value), schema, "minItems", "maxItems", f"{at} items")
        parts = [_violations(v, schema.get("items", {}), f"{at}[{i}]") for i, v in enumerate(value)]
        return found + [reason for part in parts for reason in part]
    return found + _scalar_violations(value, schema, at)


def _scalar_violations(value: Any, schema: dict[str, Any], at: str) -> list[str]:
    if isinstance(value, str):
        found = _outside(len(value), schema, "minLength", "maxLength", f"{at} length")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{at} does not match {schema['pattern']}")
        return found
    if isinstance(value, bool) or value is None:
        return []
    return _outside(value, schema, "minimum", "maximum", at)


def _object_violations(value: dict[str, Any], schema: dict[str, Any], at: str) -> list[str]:
    parts = schema.get("properties", {})
    found = [f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value]
    for name, part in value.items():
        if name in parts:
            found += _violations(part, parts[name], f"{at}.{name}")
        elif schema.get("additionalProperties") is False:
            found.append(f"{at}.{name} is not a field of the schema")
    return found


def _outside(value: float, schema: dict[str, Any], low: str, high: str, at: str) -> list[str]:
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


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
