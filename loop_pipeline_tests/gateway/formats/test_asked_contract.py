"""A schema that comes with a request is checked, or left to the frontier: it never harms us."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.answers.contract import check_contract
from loop_pipeline.answers.json_schema import MAX_DEPTH
from loop_pipeline.gateway.formats.asked_contract import any_json, json_contract
from loop_pipeline_tests.gateway.formats.wire_samples import anything, spoiled

GOOD = {
    "type": "object",
    "description": "an order",
    "properties": {
        "id": {"type": "string", "minLength": 2, "maxLength": 8},
        "kind": {"type": ["string", "null"], "enum": ["a", "b", None]},
        "lines": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9.5}},
        "fixed": {"const": {"x": [1]}},
    },
    "required": ["id"],
    "additionalProperties": False,
}


def test_a_schema_that_can_be_checked_becomes_a_contract_that_is_kept_or_broken():
    contract = json_contract(GOOD)
    assert contract == {"kind": "json", "schema": GOOD}
    assert check_contract('{"id": "ab", "lines": [3]}', contract, "") == []
    assert check_contract('{"id": "ab", "lines": [0]}', contract, "") != []
    assert check_contract('{"id": "ab", "more": 1}', contract, "") != []
    assert check_contract("[]", any_json(), "") != []
    assert check_contract("{}", any_json(), "") == []


@pytest.mark.parametrize(
    "more",
    [
        {"$ref": "#/$defs/x"},
        {"$ref": "https://shop.example/schema.json"},
        {"anyOf": []},
        {"pattern": "(a+)+$"},
        {"patternProperties": {"(a+)+$": {}}},
        {"format": "iban"},
        {"additionalProperties": 0},
        {"type": "text"},
        {"type": []},
        {"type": [["string"]]},
        {"required": "id"},
        {"required": [1]},
        {"properties": []},
        {"properties": {"a": True}},
        {"items": {"type": []}},
        {"enum": "ab"},
        {"minimum": "1"},
        {"maxLength": True},
        {"minItems": 1.5},
    ],
)
def test_what_cannot_be_checked_is_the_frontiers(more: dict[str, Any]):
    assert json_contract(GOOD | more) is None
    assert json_contract({"type": "array", "items": more}) is None


@pytest.mark.parametrize(
    ("schema", "kept", "broken"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, 3),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}}, "a", 3),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": "b"}, {"a": 1}),
        ({"type": "string", "format": "date-time"}, "2026-09-04T08:30:00Z", "tomorrow"),
    ],
)
def test_what_clients_generate_is_checked(schema: dict[str, Any], kept: Any, broken: Any):
    contract = json_contract(schema)
    assert contract == {"kind": "json", "schema": schema}
    assert check_contract(json.dumps(kept), contract, "") == []
    assert check_contract(json.dumps(broken), contract, "") != []


def test_a_schema_nested_too_deep_is_the_frontiers():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(MAX_DEPTH):
        schema = {"type": "array", "items": schema}
    assert json_contract(schema)
    assert json_contract({"type": "array", "items": schema}) is None


@given(st.one_of(spoiled(GOOD), anything), anything)
def test_no_schema_makes_the_check_fail(schema: Any, answer: Any):
    contract = json_contract(schema)
    assert contract is None or isinstance(check_contract(json.dumps(answer), contract, ""), list)
