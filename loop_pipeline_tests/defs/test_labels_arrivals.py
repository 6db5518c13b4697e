"""Traffic that comes in while its day is labelled: the run is sound, and the next one takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from loop_pipeline.defs import labels, pairs, traces
from loop_pipeline.defs.resources import Loop, TableIOManager
from loop_pipeline.demo.turn import RANGE_END, RANGE_START
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import (
    Base,
    HallucinationFlagRow,
    LabeledPairRow,
    QualityScoreRow,
    TraceSignalRow,
)
from loop_pipeline.store.traces import days_unlabelled
from loop_pipeline.traces.ingest import import_file

DAY = "2026-09-01"
STEPS: tuple[Any, ...] = (
    *(traces.raw_traces, labels.hallucination_flags, labels.trace_signals),
    *(labels.quality_scores, pairs.labeled_pairs),
)
# A function of each step, after which traffic comes in.
MOMENTS = {
    "flags": (labels, "flag_hallucinations"),
    "signals": (labels, "signals_of"),
    "scores": (labels, "score_quality"),
    "pairs": (pairs, "label_pairs"),
}

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def label(last: str = DAY) -> dg.ExecuteInProcessResult:
    """One day, or all days until another one in one run."""
    checks = [traces.traces_can_be_learned_from, traces.few_lines_are_quarantined]
    return dg.materialize(
        [*STEPS, *checks],
        partition_key=DAY if last == DAY else None,
        tags={} if last == DAY else {RANGE_START: DAY, RANGE_END: last},
        resources={"loop": Loop(), "io_manager": TableIOManager()},
        raise_on_error=False,
    )


def ids(engine: Engine, table: type[Base]) -> set[str]:
    return set(read(engine, table, days=[DAY])["prompt_id"])


def test_several_days_are_one_run_with_one_check_of_all_answers(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    import_file(engine, jsonl(*(trace(n) for n in range(9))))
    done = label("2026-09-03")
    assert done.success
    checks = [
        c
        for c in done.get_asset_check_evaluations()
        if c.check_name == "every_answer_is_flagged_or_clean"
    ]
    assert all(check.passed for check in checks)
    assert checks
    assert len(read(engine, HallucinationFlagRow)) == 9


def test_an_answer_that_was_not_looked_at_stops_the_run(
    engine: Engine, trace: Make, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_file(engine, jsonl(trace(0), trace(3)))
    work = labels.flag_hallucinations
    monkeypatch.setattr(labels, "flag_hallucinations", lambda *a, **k: work(*a, **k).head(1))
    assert not label().success
    assert ids(engine, TraceSignalRow) == set()


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_comes_in_during_a_run_is_labelled_by_the_next_one(
    engine: Engine, trace: Make, jsonl: Write, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def day(numbers: range, name: str) -> Path:
        said = {"kind": "accepted", "actor": "u", "ts": "2026-09-02T00:00:00Z"}
        return jsonl(*(trace(3 * n, feedback=[said]) for n in numbers), name=name)

    first, both = {f"p{3 * n}" for n in range(6)}, {f"p{3 * n}" for n in range(9)}
    import_file(engine, day(range(6), "early.jsonl"))
    module, name = MOMENTS[moment]
    work = getattr(module, name)

    def work_while_more_comes(*args: Any, **named: Any) -> Any:
        import_file(engine, day(range(6, 9), "late.jsonl"))
        return work(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, work_while_more_comes)
        assert label().success
    for table in (HallucinationFlagRow, TraceSignalRow, QualityScoreRow):
        assert ids(engine, table) == first
    assert ids(engine, LabeledPairRow) <= first
    assert days_unlabelled(engine, DAY, DAY) == {DAY: (3, 9)}
    assert label().success
    for table in (HallucinationFlagRow, TraceSignalRow, QualityScoreRow):
        assert ids(engine, table) == both
    assert days_unlabelled(engine, DAY, DAY) == {}


def test_as_many_late_answers_as_before_are_asked_for_again(
    engine: Engine, trace: Make, jsonl: Write
) -> None:
    """The key of a request may not be one that was there, or nothing would ever be done."""
    keys = set()
    for round_ in range(3):
        import_file(engine, jsonl(*(trace(3 * (2 * round_ + n)) for n in (0, 1)), name="r.jsonl"))
        keys.add(days_unlabelled(engine, DAY, DAY)[DAY])
        assert label().success
    assert keys == {(2, 2), (2, 4), (2, 6)}
