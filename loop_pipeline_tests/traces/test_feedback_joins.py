from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def _said(prompt_id: str, **more: Any) -> dict[str, Any]:
    return {"prompt_id": prompt_id, "kind": "thumb_down", "ts": "2026-10-01T00:00:00Z"} | more


def _reasons(engine: Engine) -> list[str]:
    return sorted(read(engine, QuarantineRow)["reason"])


@pytest.mark.parametrize("early", [True, False], ids=["before its trace", "after its trace"])
@pytest.mark.parametrize("name", ["p1", "chatcmpl-p1", "resp_abc"])
def test_feedback_finds_its_trace_by_each_of_its_names(
    engine: Engine, trace: Make, jsonl: Write, name: str, early: bool
):
    files = [
        jsonl(trace(1, response_id="resp_abc"), trace(2, response_id="resp_b"), name="t.jsonl"),
        jsonl(_said(name), name="f.jsonl"),
    ]
    for path in reversed(files) if early else files:
        import_file(engine, path)
    import_file(engine, files[1])
    import_file(engine, jsonl(_said("p1"), name="again.jsonl"))  # the same under its own name
    assert read(engine, FeedbackRow)["prompt_id"].tolist() == ["p1"]
    assert count(engine, QuarantineRow) == 0


def test_an_id_that_begins_like_a_chats_is_an_id(engine: Engine, trace: Make, jsonl: Write):
    import_file(engine, jsonl(trace(1, prompt_id="chatcmpl-1"), trace(2, prompt_id="1")))
    import_file(engine, jsonl(_said("chatcmpl-1"), name="f.jsonl"))
    assert read(engine, FeedbackRow)["prompt_id"].tolist() == ["chatcmpl-1"]


@pytest.mark.parametrize("early", [True, False], ids=["before its trace", "after its trace"])
def test_feedback_of_an_app_counts_on_its_own_traces_only(
    engine: Engine, trace: Make, jsonl: Write, early: bool
):
    files = [
        jsonl(trace(1, app="shop"), trace(2, app="desk"), name="t.jsonl"),
        jsonl(_said("p1", app="shop"), _said("p2", app="shop"), name="f.jsonl"),
    ]
    for path in reversed(files) if early else files:
        done = import_file(engine, path)
    assert read(engine, FeedbackRow)["prompt_id"].tolist() == ["p1"]
    assert _reasons(engine) == ["feedback of app 'shop' on a trace of another app"]
    assert (done.quarantined, done.waiting) == (1, 0)  # pyright: ignore[reportPossiblyUnboundVariable]
    import_file(engine, jsonl(_said("p2"), name="trusted.jsonl"))
    assert sorted(read(engine, FeedbackRow)["prompt_id"]) == ["p1", "p2"]


def test_a_vendors_id_of_two_answers_is_nobodys(engine: Engine, trace: Make, jsonl: Write):
    import_file(engine, jsonl(*(trace(n, response_id="resp_a") for n in (1, 2))))
    import_file(engine, jsonl(_said("resp_a"), name="f.jsonl"))
    assert count(engine, FeedbackRow) == 0
    assert _reasons(engine) == ["the answer id resp_a names several traces"]


def test_what_was_said_of_a_refused_answer_does_not_move_to_the_stored_one(
    engine: Engine, trace: Make, jsonl: Write
):
    good = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-10-01T00:00:00Z"}
    bad = good | {"value": 0}
    first = trace(1, feedback=[good])
    second = trace(1, output="refund", feedback=[bad])
    import_file(engine, jsonl(first, second, name="both.jsonl"), reviews=True)
    assert read(engine, FeedbackRow)["value"].tolist() == [1]
    refused = "its trace was refused: another one is stored under p1"
    # One line, one row, which says all that is wrong with it.
    assert _reasons(engine) == [f"prompt_id p1 is already stored with another output; {refused}"]
    # The same, the feedback on lines of its own.
    later = jsonl(trace(1, output="refund"), _said("p1", actor="bob"), name="later.jsonl")
    import_file(engine, later, reviews=True)
    assert read(engine, FeedbackRow)["value"].tolist() == [1]
    assert read(engine, TraceRow)["output"].tolist() == ["delivery"]


def test_feedback_from_the_future_is_refused(engine: Engine, trace: Make, jsonl: Write):
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=20)).isoformat()
    lines = [_said("p1", ts="2199-01-01T00:00:00Z"), _said("p1", ts=soon)]
    import_file(engine, jsonl(trace(1), *lines))
    assert count(engine, FeedbackRow) == 1  # clocks and time zones differ by hours
    assert _reasons(engine) == ["ts: 2199-01-01T00:00:00+00:00 lies in the future"]
