"""Lines from the quarantine tried again: what can be used leaves, nothing is doubled or moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import FeedbackRow, QuarantineRetryRow, QuarantineRow, TraceRow
from loop_pipeline.traces.importers import jsonl as reader
from loop_pipeline.traces.importers.jsonl import BadLine, parse_line
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.quarantine.quarantine_list import (
    advice,
    chosen,
    in_quarantine,
    line_in_full,
)
from loop_pipeline.traces.quarantine.quarantine_retry import Retried, retry

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
REVIEW = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-09-04T00:00:00Z"}


def again(engine: Engine, *, reviews: bool = False, **where: Any) -> Retried:
    return retry(
        engine,
        chosen(**where),
        lambda row: parse_line(row["raw"].encode()),
        reviews=lambda _: reviews,
    )


def everything(engine: Engine) -> list[Any]:
    tables = (TraceRow, FeedbackRow, QuarantineRow, QuarantineRetryRow)
    return [read(engine, table).astype(str).to_dict("records") for table in tables]


def test_after_an_upgrade_what_can_be_read_now_leaves_with_its_history(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that did not know a form of a line, and one that does."""
    path = jsonl(trace(1), trace(2, user_hash="old"), "{broken", trace(3, user_hash="old"))

    def older(raw: bytes, *rest: Any) -> Any:
        if b"user_hash" in raw:
            return [BadLine(raw.decode().rstrip("\n"), "user_hash: no field")]
        return parse_line(raw, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reader, "parse_line", older)
        assert import_file(engine, path).quarantined == 3
    before = read(engine, QuarantineRow, line=2).iloc[0]
    done = again(engine)
    assert (done.left, done.stayed, done.imported.traces) == (2, 1, 2)
    assert sorted(read(engine, TraceRow)["prompt_id"]) == ["p1", "p2", "p3"]
    assert read(engine, QuarantineRow)["line"].tolist() == [3]
    row, history = line_in_full(engine, before["quarantine_id"])
    assert (row["raw"], row["reason"]) == (before["raw"], "user_hash: no field")
    assert row["ts"] == before["ts"]
    assert [tried["imported"] for tried in history] == [True]
    # Twice is once, and the file itself is known by now.
    there = everything(engine)
    assert (again(engine).left, everything(engine)) == (0, there)
    assert import_file(engine, path).quarantined == 0
    assert everything(engine) == there


def test_reviews_that_nobody_vouched_for_count_once_somebody_does(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    """Inside a trace, on a line of its own, and on a trace that has not come yet."""
    lines = [trace(1, feedback=[REVIEW]), REVIEW | {"prompt_id": "p1", "actor": "bob"}]
    path = jsonl(*lines, REVIEW | {"prompt_id": "p9"})
    assert import_file(engine, path).quarantined == 3
    assert again(engine).left == 0
    assert count(engine, FeedbackRow) == 0
    done = again(engine, reviews=True)
    assert (done.left, done.imported.feedback, done.imported.waiting) == (3, 2, 1)
    assert sorted(read(engine, FeedbackRow)["actor"]) == ["ann", "bob"]
    assert import_file(engine, path).quarantined == 0, "not again without the option either"
    import_file(engine, jsonl(trace(9), name="later.jsonl"))
    assert count(engine, FeedbackRow) == 3


@pytest.mark.parametrize("inside", [True, False])
def test_a_review_of_a_refused_answer_never_moves_to_the_stored_one(
    engine: Engine, trace: Make, jsonl: Write, inside: bool
) -> None:
    bad = REVIEW | {"value": 0}
    beside = [] if inside else [bad | {"prompt_id": "p1"}]
    other = trace(1, output="refund", feedback=[bad] if inside else [])
    import_file(engine, jsonl(trace(1, feedback=[REVIEW]), name="first.jsonl"), reviews=True)
    import_file(engine, jsonl(other, *beside, name="second.jsonl"), reviews=True)
    # All at once, and those alone that speak of the refused one.
    for where in ({}, {"reason": "its trace was refused"}):
        assert again(engine, reviews=True, **where).left == 0
        assert read(engine, FeedbackRow)["value"].tolist() == [1]


def test_what_fails_again_keeps_the_new_reason_and_the_old_one_is_history(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(trace(1, tokens_in=-1)))
    with engine.begin() as connection:
        connection.execute(update(QuarantineRow).values(reason="as an older release said it"))
    done = again(engine)
    assert (done.left, done.stayed) == (0, 1)
    row, history = line_in_full(engine, read(engine, QuarantineRow)["quarantine_id"][0])
    assert row["reason"].startswith("tokens_in: ")
    assert [tried["reason"] for tried in history] == ["as an older release said it"]
    assert [tried["imported"] for tried in history] == [False]
    there = everything(engine)
    assert again(engine).stayed == 1
    assert everything(engine) == there, "the same reason again is no news"


def test_a_line_that_is_not_text_is_as_bad_when_it_is_tried_again(
    engine: Engine, trace: Make, tmp_path: Path
) -> None:
    """What stands for a byte that cannot be stored must not become part of an answer."""
    import json

    sound = json.dumps(trace(1)).encode()
    path = tmp_path / "bytes.jsonl"
    path.write_bytes(b"\n".join(sound.replace(b"delivery", odd) for odd in (b"\xe9", b"\0", b"x")))
    assert import_file(engine, path).quarantined == 2
    assert again(engine).left == 0
    assert read(engine, TraceRow)["output"].tolist() == ["x"]


def test_a_line_of_which_too_little_is_kept_is_left_alone(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_LINE_BYTES", 3000)
    import_file(engine, jsonl(trace(1), trace(2, context="x" * 4000)))
    done = again(engine)
    assert (done.left, done.stayed, done.not_tried) == (0, 0, 1)
    assert "its beginning is kept" in read(engine, QuarantineRow)["reason"][0]
    assert "import their files again" in str(done)


def test_lines_are_counted_by_file_and_reason_and_chosen_by_both(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    wrong = [trace(n, tokens_in=-n) for n in (1, 2, 3)]
    import_file(engine, jsonl(trace(0), *wrong, "{broken", name="a.jsonl"))
    import_file(engine, jsonl(trace(0), trace(9, tokens_in=-9), name="b.jsonl"))
    import_file(engine, jsonl({"prompt_id": "z", "kind": "copied", "ts": 1788510600}, name="c"))
    found = in_quarantine(engine, chosen())
    sizes = {(k.source, k.reason.split(":")[0]): len(names) for k, names in found.kinds.items()}
    assert sizes == {("a.jsonl", "tokens_in"): 3, ("a.jsonl", "not JSON"): 1} | {
        ("b.jsonl", "tokens_in"): 1
    }
    assert found.waiting == 1
    assert len(in_quarantine(engine, chosen("a.jsonl", "TOKENS")).kinds) == 1
    names = [name for of_kind in found.kinds.values() for name in of_kind]
    few = in_quarantine(engine, chosen(ids=(names[0][:12], names[-1]))).kinds
    assert sum(map(len, few.values())) == 2
    with pytest.raises(ValueError, match="no line has"):
        line_in_full(engine, "100%")


def test_every_reason_has_something_to_do(engine: Engine, trace: Make, jsonl: Write) -> None:
    import_file(engine, jsonl(trace(0), trace(0, output="x"), trace(1, ts="never"), "{"))
    for reason in read(engine, QuarantineRow)["reason"]:
        assert advice(reason).count(" ") > 4
