"""Whatever a body holds, reading it gives a value that can be written again, or says why not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.exchange import BadRequest
from loop_pipeline_tests.gateway.formats.wire_samples import anything, raw


@given(anything)
def test_every_json_value_is_read_and_can_be_written_again(value: Any):
    read, strict = fields.load(raw(value))
    assert fields.load(orjson.dumps(read)) == (read, True)
    assert read == value or not strict or _has_long_number(value)


def _has_long_number(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    long = isinstance(value, int) and not -(2**63) <= value < 2**64
    return long or any(_has_long_number(part) for part in parts)


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_and_nothing_else_happens(body: bytes):
    try:
        fields.load_request(body)
    except BadRequest as error:
        assert "JSON" in str(error)
    assert isinstance(fields.load_reply(body), dict)


def test_half_of_an_emoji_is_read_as_a_question_mark_and_told():
    assert fields.load(b'{"a":"x\\ud83d"}') == ({"a": "x?"}, False)
    assert fields.load('{"a":"x\U0001f600"}'.encode()) == ({"a": "x\U0001f600"}, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'"text"',
        b"{",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":' * 300 + b"1" + b"}" * 300,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a":"\\ud800",' + b'"b":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_object_or_cannot_be_kept_is_a_bad_request(body: bytes):
    with pytest.raises(BadRequest, match="JSON"):
        fields.load_request(body)


def test_a_field_that_is_null_is_no_obstacle_and_an_unknown_one_is():
    askable: dict[str, fields.Check] = {"a": fields.is_bool}
    assert fields.first_obstacle({"a": True, "b": None}, askable) is None
    assert fields.first_obstacle({"a": 1}, askable) == "a"
    assert fields.first_obstacle({"a": True, "new_thing": False}, askable) == "new_thing"


def test_a_fields_name_reaches_no_header_unless_it_looks_like_one():
    for name in ("x\r\nset-cookie: a=b", "naïve", "", "a" * 65, "a b"):
        assert fields.first_obstacle({name: 1}, {}) == "a field with an odd name"


def test_booleans_are_no_numbers():
    assert not fields.is_int(True)
    assert not fields.is_share(True)
    assert not fields.is_zero(False)
    assert fields.count(True) == fields.count(-1) == fields.count(2**31) == fields.count(1.0) == 0
    assert fields.smallest_count(None, 7, "3", 5) == 5
    assert fields.smallest_count(None, 0) is None
