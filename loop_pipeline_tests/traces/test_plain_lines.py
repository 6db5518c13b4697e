"""The fast way and the schema come to the same result, on any line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loop_pipeline.traces.importers import jsonl
from loop_pipeline.traces.importers.jsonl import BadLine, parse_line
from loop_pipeline.traces.plain_lines import CHECKS, plain_trace
from loop_pipeline.traces.records import Trace
from loop_pipeline.traces.trace_lines import TraceLine

TEXT = st.text(max_size=8) | st.sampled_from(["\0", "ü👍", "\\u0000", "9" * 25])
NUMBER = st.sampled_from([0, 1, -1, 2.5, 0.0, -0.0, 1e300, 2**31, 2**63, 10**30, True, "3"])
ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOMENT = st.sampled_from(
    [
        "2026-09-01T10:00:00Z",
        "2026-09-01T10:00:00.5+02:00",
        "2026-09-01T10:00:00-00:00",
        "2026-09-01 10:00:00Z",
        "2026-09-01T10:00:00",
        "2026-02-30T10:00:00Z",
        "2026-09-01T10:00:60Z",
        "2026-09-01T24:00:00Z",
        "2026-09-01T10:00:00.1234567Z",
        "2026-09-01T10:00:00+23:59",
        "2026-09-01T10:00:00+24:00",
        "0001-01-01T00:00:00+14:00",
        1788000000,
    ]
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "developer"]) | ANY},
    optional={"content": TEXT | ANY, "name": ANY, "tool_calls": ANY},
)
GOOD = {
    "prompt_id": TEXT,
    "ts": MOMENT,
    "messages": st.lists(MESSAGE | ANY, max_size=3),
    "output": TEXT,
    "model": TEXT,
}
LINE = st.fixed_dictionaries(
    {"ts": MOMENT},
    optional={
        "messages": st.lists(MESSAGE, min_size=1, max_size=3) | ANY,
        "output": TEXT | ANY,
        "model": TEXT,
        **{
            name: TEXT | NUMBER | ANY
            for name in Trace.model_fields
            if name not in ("ts", "messages", "output", "model", "feedback")
        },
        "feedback": st.lists(st.dictionaries(TEXT, ANY, max_size=2), max_size=2) | ANY,
        "colour": ANY,
    },
)
PLAIN = st.fixed_dictionaries(
    {
        "ts": st.just("2026-09-01T10:00:00.25+02:00"),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"content": TEXT | st.none(), "role": TEXT}, optional={"tool_calls": ANY}
            ),
            min_size=1,
            max_size=3,
        ),
        "output": TEXT,
        "model": st.text(min_size=1, max_size=5),
    },
    optional={
        "prompt_id": TEXT,
        "tokens_in": st.integers(0, 2**32),
        "latency_ms": st.integers(0, 9) | st.floats(0, 1e9),
        "logprobs": st.dictionaries(TEXT, st.floats(-9, 0) | st.integers(-9, 0), max_size=2),
        "route": st.dictionaries(TEXT, ANY, max_size=3),
        "contract": st.dictionaries(TEXT, ANY, max_size=3),
        "tool_calls": st.lists(ANY, max_size=2),
        "user": TEXT,
        "producer": st.sampled_from(["frontier", "student", "human", "cat"]),
    },
)


def _row(found: Any) -> Any:
    if not isinstance(found, TraceLine):
        return found
    try:
        return found.rows("s", "user {}".format)
    except (ValueError, TypeError) as error:
        return str(error)


def _both_ways(line: Any) -> None:
    raw = json.dumps(line).encode()
    fast = parse_line(raw)
    kept, jsonl.plain_trace = jsonl.plain_trace, lambda _: None
    try:
        slow = parse_line(raw)
    finally:
        jsonl.plain_trace = kept
    assert [type(f) for f in fast] == [type(s) for s in slow]
    for one, other in zip(fast, slow, strict=True):
        assert _row(one) == _row(other)
        if isinstance(one, TraceLine):
            assert json.dumps(_row(one), default=str) == json.dumps(_row(other), default=str)


@given(LINE)
@settings(max_examples=300)
def test_any_line_gives_the_same_record_or_the_same_reason_both_ways(line: Any):
    _both_ways(line)


@given(PLAIN)
@settings(max_examples=300)
def test_a_plain_line_gives_the_same_row_both_ways(line: Any):
    _both_ways(line)


def test_the_usual_line_takes_the_fast_way():
    line = {
        "prompt_id": "p1",
        "ts": "2026-09-01T10:00:00.123456+00:00",
        "messages": [
            {"role": "system", "content": "Sort [it]"},
            {"role": "user", "content": [{"type": "text", "text": "{}" * 200}]},
        ],
        "output": "a",
        "model": "m",
        "route": {"propensity": 0.05},
        "logprobs": {"sum": -1},
    }
    assert isinstance(plain_trace(json.dumps(line).encode()), TraceLine)


def test_every_field_of_a_trace_can_go_the_fast_way():
    assert set(CHECKS) == set(Trace.model_fields)


@given(st.binary(max_size=40))
def test_no_bytes_raise(raw: bytes):
    assert all(isinstance(found, BadLine) for found in parse_line(raw))
