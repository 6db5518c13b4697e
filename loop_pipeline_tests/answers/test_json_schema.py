"""Schemas as people and tools write them are checked; none hangs, fetches or breaks anything."""

from __future__ import annotations

import enum
import json
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from loop_pipeline.answers.contract import UnsupportedContract, check_contract
from loop_pipeline.answers.json_schema import check_schema, schema_violations
from loop_pipeline_tests.shared import ends


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Bell(BaseModel):
    kind: Literal["bell"]
    loud: bool = False


class Lamp(BaseModel):
    kind: Literal["lamp"]
    lumen: Annotated[int, Field(gt=0, le=9000)]


class Part(BaseModel):
    sku: Annotated[str, Field(pattern=r"^[a-z]+-\d+$")]
    inner: list[Part] = []


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    note: str | None = None
    colour: Colour
    when: datetime
    items: list[Annotated[Bell | Lamp, Field(discriminator="kind")]]
    parts: list[Part] = []
    place: tuple[float, float] | None = None
    prices: dict[str, float] = {}


GOOD: dict[str, Any] = {
    "note": None,
    "colour": "red",
    "when": "2026-09-04T08:30:00Z",
    "items": [{"kind": "bell"}, {"kind": "lamp", "lumen": 800}],
    "parts": [{"sku": "bell-1", "inner": [{"sku": "nut-2"}]}],
    "place": [1.5, 2],
    "prices": {"a": 1.0},
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("note", 3),
        ("colour", "green"),
        ("when", "tomorrow"),
        ("items", [{"kind": "tyre"}]),
        ("items", [{"kind": "lamp", "lumen": 0}]),
        ("parts", [{"sku": "bell-1", "inner": [{"sku": "NUT"}]}]),
        ("place", [1.5]),
        ("place", ["a", 2]),
        ("prices", {"a": "dear"}),
        ("more", 1),
    ],
)
def test_a_generated_schema_is_checked_in_each_of_its_parts(field: str, value: Any) -> None:
    schema = Order.model_json_schema()
    contract = {"kind": "json", "schema": schema}
    assert check_contract(json.dumps(GOOD), contract, "") == []
    assert check_contract(json.dumps(GOOD | {field: value}), contract, "")


@pytest.mark.parametrize(
    ("schema", "kept", "broken"),
    [
        ({"type": "string", "nullable": True}, None, 3),
        ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, 1, 3),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, 2, 4),
        ({"not": {"type": "null"}}, 1, None),
        ({"if": {"minimum": 5}, "then": {"multipleOf": 5}}, 10, 7),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"items": [{"type": "string"}], "additionalItems": False}, ["a"], ["a", 1]),
        ({"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": False},
         {"x1": None}, {"y": None}),
        ({"propertyNames": {"maxLength": 2}}, {"ab": 1}, {"abc": 1}),
        ({"uniqueItems": True}, [1, True, "1"], [1, 1.0]),
        ({"minimum": 3, "exclusiveMinimum": True}, 4, 3),
        ({"definitions": {"a": {"const": 1}}, "$ref": "#/definitions/a"}, 1, 2),
        ({"format": "date"}, "2026-09-04", "4.9."),
        ({"format": "uuid"}, "12345678-1234-5678-1234-567812345678", "1"),
        ({"format": "a format of somebody"}, "x", None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "const": 1}, 1, 2),
        ({"x-order": 1, "example": 3, "type": "integer"}, 1, "a"),
    ],
)  # fmt: skip
def test_what_a_schema_says_is_kept_or_broken(schema: Any, kept: Any, broken: Any) -> None:
    assert schema_violations(kept, schema) == []
    if broken is not None or "not" in schema:
        assert schema_violations(broken, schema) != []


DOUBLING = {
    "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    | {"a40": {"type": "string"}},
    "$ref": "#/$defs/a0",
}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$ref": "#"}, "circle"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, "circle"),
        ({"$ref": "#/$defs/gone"}, "leads nowhere"),
        ({"$ref": "https://shop.example/schema.json"}, "nothing is fetched"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "nothing is fetched"),
        (DOUBLING, "takes too long"),
        ({"minimun": 3}, "'minimun' at \\$ is not checked"),
        ({"properties": {"a": {"required": "id"}}}, "'required' at \\$.a cannot be read"),
        ({"properties": {"a": {}}, "description": "x" * 300_000}, "characters"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_with_the_reason(schema: Any, why: str) -> None:
    with ends(), pytest.raises(UnsupportedContract, match=why):
        schema_violations({"a": 1}, schema)


def test_a_draft_that_is_named_inside_has_the_same_bounds() -> None:
    part = {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": "(a|aa)+$"}
    with ends():
        assert "in time" in schema_violations(["a" * 90 + "!"], {"items": part})[0]


def test_a_circle_that_goes_through_a_value_ends_with_it() -> None:
    tree = {"type": "object", "properties": {"in": {"$ref": "#"}}, "additionalProperties": False}
    assert schema_violations({"in": {"in": {}}}, tree) == []
    assert schema_violations({"in": {"out": {}}}, tree)
    assert "type" in check_schema(tree)
