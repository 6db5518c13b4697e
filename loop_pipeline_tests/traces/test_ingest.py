from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from loop_pipeline.store.database import count, open_store, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.traces import ingest
from loop_pipeline.traces.importers import batches
from loop_pipeline.traces.importers.jsonl import Record
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.records import Feedback, Trace
from loop_pipeline_tests.shared import secret

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
    import_file(engine, jsonl(line), secret=secret)
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
        ("ts", "04/09/2026 08:30", "datetime"),
        ("tokens_in", -1, "greater than or equal to 0"),
        ("messages", [], "at least 1"),
        ("latency_ms", 1e12, "less than or equal to"),
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


def _review(prompt_id: str, value: float = 1, hour: int = 0) -> dict[str, Any]:
    ts = f"2026-10-01T{hour:02d}:00:00Z"
    return {"prompt_id": prompt_id, "kind": "review", "value": value, "actor": "ann", "ts": ts}


def test_late_feedback_joins_its_trace(engine: Engine, trace: Make, jsonl: Write) -> None:
    early = jsonl(_review("p1"), _review("never"), name="early.jsonl")
    done = import_file(engine, early, reviews=True)
    assert (done.feedback, done.quarantined, done.waiting, done.joined) == (0, 0, 2, 0)
    assert "2 feedback still wait for their trace" in str(done)
    row = read(engine, QuarantineRow, prompt_id="p1").iloc[0]
    assert (row["source"], row["line"]) == ("early.jsonl", 1)
    assert "waits for its trace" in row["reason"]
    assert (
        import_file(engine, early, reviews=True).waiting == 2
    )  # twice the same file: the same rows
    assert read_feedback(engine).empty

    done = import_file(engine, jsonl(trace(1)))
    assert (done.traces, done.waiting, done.joined) == (1, 1, 1)
    assert "1 feedback joined to traces they waited for" in str(done)
    joined = read_feedback(engine, days=["2026-09-02"])
    assert joined[["prompt_id", "kind", "actor", "source"]].to_numpy().tolist() == [
        ["p1", "review", "ann", "early.jsonl"]
    ]
    assert list(read(engine, QuarantineRow)["prompt_id"]) == ["never"]
    # A draw of reviews has to notice it: it counts from when it was joined.
    assert joined["received_at"].iloc[0] > row["ts"]


def test_feedback_before_its_trace_in_one_file_is_joined(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    lines = [_review("p9"), _review("p2"), trace(2), trace(3), trace(9)]
    done = import_file(engine, jsonl(*lines), reviews=True)
    assert (done.traces, done.waiting, count(engine, FeedbackRow)) == (3, 0, 2)
    assert count(engine, QuarantineRow) == 0


LINES = st.lists(
    st.one_of(
        st.tuples(st.just("trace"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("review"), st.integers(0, 5), st.integers(0, 2)),
    ),
    max_size=14,
)


@given(lines=LINES, data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_over_any_files_ends_in_the_same_store(
    engine: Engine, lines: list[tuple[str, int, int]], data: st.DataObject, trace: Make
) -> None:
    records: list[Record] = [
        Trace.model_validate(trace(n))
        if kind == "trace"
        else Feedback.model_validate(_review(f"p{n}", hour % 2, hour))
        for kind, n, hour in lines
    ]

    tables = (FeedbackRow, QuarantineRow, TraceRow)

    def stored(parts: list[list[Record]]) -> list[list[Any]]:
        with engine.begin() as connection:
            for table in tables:
                connection.execute(delete(table))
        for part in parts:
            ingest.import_records(engine, enumerate(part, start=1), source="files", reviews=True)
        timed = ["received_at", "ts", "line"]
        found = [read(engine, table).drop(columns=timed, errors="ignore") for table in tables]
        return [frame.to_dict("records") for frame in found]

    shuffled = data.draw(st.permutations(records))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    parts = [shuffled[a:b] for a, b in pairwise([0, *cuts, len(records)])]
    assert stored(parts) == stored([records])


def test_an_import_killed_half_way_can_simply_be_run_again(
    tmp_path: Path, trace: Make, jsonl: Write
) -> None:
    path, url = jsonl(*(trace(i) for i in range(30_000))), f"sqlite:///{tmp_path}/k.db"
    code = (
        "import sys; from pathlib import Path; from loop_pipeline.store.database import open_store;"
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


REVIEW = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-09-04T00:00:00Z"}


@pytest.mark.parametrize("edited", [{}, {"edited_output": "refund"}])
def test_a_log_line_that_says_review_is_no_review(
    engine: Engine, trace: Make, jsonl: Write, edited: dict[str, Any]
) -> None:
    """Inside a trace, beside it, or before it: whoever writes a log is no reviewer."""
    said = REVIEW | edited
    early, beside = said | {"prompt_id": "p2"}, said | {"prompt_id": "p1"}
    path = jsonl(early, trace(1, feedback=[said]), beside, trace(2), trace(3))
    done = import_file(engine, path)
    assert (done.traces, done.feedback, done.waiting, done.quarantined) == (3, 0, 0, 3)
    assert read_feedback(engine).empty
    assert read(engine, QuarantineRow)["reason"].str.contains("no review").all()
    assert import_file(engine, path, reviews=True).feedback == 2, "they were vouched for"


def test_days_that_no_step_sees_are_named(engine: Engine, trace: Make, jsonl: Write) -> None:
    early, late = "2025-03-01T00:00:00Z", "2150-01-01T00:00:00Z"
    done = import_file(engine, jsonl(trace(1, ts=early), trace(2, ts=late), trace(3)))
    assert {"2025-03-01": 1, "2150-01-01": 1}.items() < done.days.items()
    said = done.remarks("2026-01-01")
    assert "LOOP_FIRST_DAY=2025-03-01" in said[0]
    assert "in the future (until 2150-01-01)" in said[1]


@pytest.mark.parametrize(("good", "bad", "status"), [(0, 3, 1), (1, 1, 3), (20, 1, 0), (3, 0, 0)])
def test_the_exit_status_says_how_much_could_be_read(
    engine: Engine, trace: Make, jsonl: Write, good: int, bad: int, status: int
) -> None:
    wrong = [trace(100 + n, tokens_in=-1) for n in range(bad)]
    done = import_file(engine, jsonl(*wrong, *(trace(n) for n in range(good))))
    assert (done.traces, done.quarantined, done.exit_status) == (good, bad, status)


def test_a_model_without_a_price_is_said_so(engine: Engine, trace: Make, jsonl: Write) -> None:
    lines = (trace(1, model="own-9", tokens_in=5), trace(2, model="own-9", cost_usd=0.1))
    told = import_file(engine, jsonl(*lines, trace(3, tokens_in=5), trace(4)))
    assert told.unpriced == {"own-9": 1, "claude-opus-5 (no tokens logged)": 1}
    [said] = told.remarks("2026-01-01")
    assert "2 of 4 answers are unpriced" in said
    assert "own-9 1" in said
    assert "name their prices in LOOP_PRICES_FILE" in said
    cost = read(engine, TraceRow).set_index("prompt_id")["cost_usd"]
    assert cost.isna().to_dict() == {"p1": True, "p2": False, "p3": False, "p4": True}


def test_a_student_bills_no_tokens_and_a_free_answer_stays_free(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    own = trace(1, producer="student", model="desk-1", tokens_in=5)
    done = import_file(engine, jsonl(own, trace(2, model="own-9", tokens_in=5, cost_usd=0)))
    assert done.unpriced == {}
    assert set(read(engine, TraceRow)["cost_usd"]) == {0.0}


def test_kinds_of_tokens_and_the_tier_are_kept_and_priced(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    counts = {
        "tokens_in": 1000,
        "tokens_cached": 300,
        "tokens_cache_write": 200,
        "tokens_cache_write_1h": 50,
        "tokens_out": 100,
        "tokens_reasoning": 70,
    }
    apart = counts | {"tokens_in": 400, "tokens_reasoning": 170}
    lines = (trace(1, **counts), trace(2, **counts, service_tier="batch"), trace(3, **apart))
    done = import_file(engine, jsonl(*lines, trace(4, tokens_audio_in=-1)))
    assert (done.traces, done.quarantined) == (3, 1)
    rows = read(engine, TraceRow).set_index("prompt_id")
    assert {name: rows.loc["p1", name] for name in counts} == counts
    usd = (500 * 5 + 300 * 0.5 + 150 * 6.25 + 50 * 10 + 100 * 25) / 1e6
    assert rows.loc["p1", "cost_usd"] == pytest.approx(usd)
    assert rows.loc["p2", "cost_usd"] == pytest.approx(usd / 2)
    # A provider that counts what its cache took, and thoughts, beside the others.
    assert (rows.loc["p3", "tokens_in"], rows.loc["p3", "tokens_out"]) == (900, 270)
    assert any("tokens_reasoning counted apart from tokens_out" in note for note in done.notes)
