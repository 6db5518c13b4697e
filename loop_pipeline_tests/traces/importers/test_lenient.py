"""What can mean one thing only is read so; what can mean two is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.traces.importers.jsonl import BadLine, Note, parse_line
from loop_pipeline.traces.importers.lenient import moment
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.trace_lines import TraceLine
from loop_pipeline_tests.shared import secret

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
NOON = dt.datetime(2026, 3, 5, 12, 0, 7, tzinfo=dt.UTC)


def _parsed(line: Any) -> list[Any]:
    return parse_line(json.dumps(line).encode())


@pytest.mark.parametrize(
    "given",
    [
        NOON.timestamp(),
        int(NOON.timestamp()),
        str(int(NOON.timestamp())),
        int(NOON.timestamp() * 1e3),
        int(NOON.timestamp()) * 10**6,
        int(NOON.timestamp()) * 10**9,
        str(int(NOON.timestamp()) * 10**9),
        "2026-03-05T12:00:07Z",
        "2026-03-05 13:00:07 +0100",
        "2026-03-05 12:00:07 UTC",
        "2026-03-05 12:00:07 +0000 UTC",
        "20260305T120007Z",
        "Thu, 05 Mar 2026 12:00:07 GMT",
        "5 Mar 2026 14:00:07 +0200",
    ],
)
def test_a_moment_is_the_same_in_whatever_form(given: Any) -> None:
    assert moment(given) == (NOON, False)


@pytest.mark.parametrize("given", ["2026-03-05 12:00:07", "2026-03-05T12:00:07.000", "2026-03-05"])
def test_a_time_without_a_zone_has_the_zone_that_was_asked_for(given: str) -> None:
    found, assumed = moment(given, ZoneInfo("Asia/Kolkata"))
    assert assumed
    assert found.utcoffset() == dt.timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    "given",
    [
        "05/03/2026 12:00",
        "20260305",
        "12:00",
        "Thu, 05 Mar 2026 12:00:07 CEST",
        "2026-03-05T12:00:07 Europe/Berlin",
        True,
        None,
        [1],
    ],
)
def test_what_could_be_another_moment_is_left_to_be_refused(given: Any) -> None:
    assert moment(given) == (given, False) or moment(given)[1]


@pytest.mark.parametrize(
    "given", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00-05:00", 0, "1970-01-01T00:00:00Z"]
)
def test_a_zero_is_no_time(engine: Engine, trace: Make, jsonl: Write, given: Any) -> None:
    assert import_file(engine, jsonl(trace(1, ts=given), trace(2))).traces == 1
    assert "no time was logged" in read(engine, QuarantineRow)["reason"].iloc[0]


def test_numbers_as_ids_are_their_text_in_traces_and_feedback(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    said = {"prompt_id": 88, "kind": "accepted", "actor": 3, "ts": "2026-09-03T00:00:00Z"}
    lines = (trace(1, prompt_id=88, user=5, conversation_id=6, task=7), said, said | {"actor": "4"})
    done = import_file(engine, jsonl(*lines), secret=secret)
    assert (done.traces, done.feedback, done.quarantined) == (1, 2, 0)
    assert read(engine, TraceRow)[["prompt_id", "task"]].iloc[0].tolist() == ["88", "7"]
    assert set(read(engine, FeedbackRow)["actor"]) == {"3", "4"}


def test_null_is_as_if_the_field_were_absent(trace: Make) -> None:
    names = ("tokens_in", "tokens_cached", "retries", "app", "producer", "simulated", "feedback")
    [found] = _parsed(trace(1, **dict.fromkeys(names)))
    [plain] = _parsed(trace(1))
    assert found.values == plain.values


def test_unknown_fields_cost_nothing_and_are_counted(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    done = import_file(engine, jsonl(trace(1, seed=4), trace(2, seed=5, host="a"), trace(3)))
    assert (done.traces, done.quarantined) == (3, 0)
    assert done.notes == {"field 'seed' is not used": 2, "field 'host' is not used": 1}
    assert done.remarks("2026-01-01")[0] == "field 'seed' is not used (2 lines)"


@pytest.mark.parametrize("pieces", ["good", 5, [None], [{"kind": "accepted"}], {"kind": "x"}])
def test_feedback_that_is_none_costs_itself(trace: Make, pieces: Any) -> None:
    first, second = _parsed(trace(1, feedback=pieces))
    assert isinstance(first, TraceLine)
    assert isinstance(second, BadLine)
    assert "feedback of p1" in second.reason


def test_feedback_beside_a_wrong_piece_is_kept(trace: Make) -> None:
    good = {"kind": "rejected", "ts": "2026-09-03T00:00:00Z"}
    found = _parsed(trace(1, feedback=["fine", good]))
    assert [type(one) for one in found] == [TraceLine, BadLine, Feedback]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"output": None, "finish_reason": "tool_use"}, "the answer is a tool call"),
        ({"output": None}, "there is no answer"),
        ({"output": {"text": "x"}}, "output"),
    ],
)
def test_a_line_without_an_answer_says_so(trace: Make, fields: dict[str, Any], reason: str) -> None:
    [found] = _parsed(trace(1, **fields))
    assert isinstance(found, BadLine)
    assert reason in found.reason


def test_an_answer_in_parts_is_its_text(trace: Make) -> None:
    [found] = _parsed(
        trace(1, output=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    )
    assert found.values["output"] == "a\nb"


def test_cached_tokens_counted_apart_are_added(trace: Make) -> None:
    found, note = _parsed(trace(1, tokens_in=20, tokens_cached=500, tokens_out=1))
    assert found.values["tokens_in"] == 520
    assert isinstance(note, Note)
