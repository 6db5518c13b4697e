from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.store.queries import count, open_store, read, read_feedback, read_traces
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.traces.ingest import import_file

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def test_the_same_file_twice_gives_the_same_rows(engine: Engine, trace: Make, jsonl: Write) -> None:
    accepted = {"kind": "accepted", "actor": "u1", "ts": "2026-09-02T00:00:00Z"}
    path = jsonl(*(trace(i, feedback=[accepted]) for i in range(50)), "{broken", name="a.jsonl")
    first = import_file(engine, path)
    before = [read(engine, t) for t in (TraceRow, FeedbackRow, QuarantineRow)]
    second = import_file(engine, path)
    assert (first.traces, first.feedback, first.quarantined) == (50, 50, 1)
    assert (second.traces, second.feedback, second.quarantined) == (0, 0, 0)
    assert (second.traces_known, second.feedback_known, second.quarantined_known) == (50, 50, 1)
    for frame, table in zip(before, (TraceRow, FeedbackRow, QuarantineRow), strict=True):
        assert read(engine, table).equals(frame)


def test_what_goes_in_comes_out(engine: Engine, trace: Make, jsonl: Write) -> None:
    line = trace(
        3, context="c", latency_ms=12.5, tokens_in=7, cost_usd=0.25, user="ann@example.org"
    )
    import_file(engine, jsonl(line))
    row = read_traces(engine).iloc[0]
    for name in (
        "prompt_id",
        "messages",
        "output",
        "context",
        "latency_ms",
        "cost_usd",
        "contract",
    ):
        assert row[name] == line[name]
    assert row["ts"].isoformat() == line["ts"]
    assert row["day"] == "2026-09-01"
    assert row["conversation_id"] is None
    assert "ann" not in str(row.to_dict())  # users are known by a hash only


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "not a JSON object but list"),
        ("\x00\x01", "not JSON"),
        ({"prompt_id": "x"}, "messages: Field required"),
        ({"prompt_id": "x", "kind": "accepted"}, "ts: Field required"),
        (
            {"prompt_id": "x", "kind": "loved", "ts": "2026-09-01T00:00:00Z"},
            "kind: Input should be",
        ),
        ({"prompt_id": "x", "kind": "review", "ts": "2026-09-01T00:00:00Z"}, "needs a value"),
        (
            {"prompt_id": "x", "kind": "modified", "ts": "2026-09-01T00:00:00Z"},
            "needs edited_output",
        ),
    ],
)
def test_a_bad_line_is_quarantined_and_the_rest_goes_on(
    engine: Engine, trace: Make, jsonl: Write, line: dict[str, Any] | str, reason: str
) -> None:
    done = import_file(engine, jsonl(trace(1), line, trace(2)))
    assert (done.traces, done.quarantined) == (2, 1)
    row = read(engine, QuarantineRow).iloc[0]
    assert reason in row["reason"]
    assert (row["source"], row["line"]) == ("traces.jsonl", 2)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("ts", "2026-09-01T00:00:00", "timezone"),
        ("tokens_in", -1, "greater than or equal to 0"),
        ("messages", [], "at least 1"),
        ("colour", "red", "Extra inputs"),
    ],
)
def test_a_wrong_field_is_named(
    engine: Engine, trace: Make, jsonl: Write, field: str, value: Any, reason: str
) -> None:
    assert import_file(engine, jsonl(trace(1, **{field: value}))).quarantined == 1
    stored = read(engine, QuarantineRow).iloc[0]["reason"]
    assert stored.startswith(field)
    assert reason in stored


def test_wrong_feedback_costs_the_feedback_not_the_trace(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    done = import_file(engine, jsonl(trace(1, feedback=[{"kind": "accepted"}])))
    assert (done.traces, done.feedback, done.quarantined) == (1, 0, 1)


def test_a_prompt_id_with_two_answers_keeps_the_first(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(trace(1)))
    done = import_file(engine, jsonl(trace(1, output="refund"), name="later.jsonl"))
    assert (done.traces, done.quarantined) == (0, 1)
    assert read_traces(engine).iloc[0]["output"] == "delivery"
    assert "p1 is already stored" in read(engine, QuarantineRow).iloc[0]["reason"]


def test_late_feedback_joins_its_trace(engine: Engine, trace: Make, jsonl: Write) -> None:
    late = {"prompt_id": "p1", "kind": "review", "value": 1, "ts": "2026-10-01T00:00:00Z"}
    import_file(engine, jsonl(late, name="early.jsonl"))
    assert read_feedback(engine).empty
    import_file(engine, jsonl(trace(1)))
    assert list(read_feedback(engine, days=["2026-09-02"])["kind"]) == ["review"]


def test_an_import_killed_half_way_can_simply_be_run_again(
    tmp_path: Path, trace: Make, jsonl: Write
) -> None:
    path, url = jsonl(*(trace(i) for i in range(30_000))), f"sqlite:///{tmp_path}/k.db"
    code = (
        "import sys; from pathlib import Path; from loop_pipeline.store.queries import open_store;"
        "from loop_pipeline.traces.ingest import import_file;"
        "import_file(open_store(sys.argv[1]), Path(sys.argv[2]),"
        " lambda done: print(done.traces, flush=True))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, url, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()  # the first batch is in
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    engine = open_store(url)
    there = count(engine, TraceRow)
    assert 0 < there < 30_000
    done = import_file(engine, path)
    assert done.traces == 30_000 - there
    assert count(engine, TraceRow) == 30_000
    engine.dispose()
