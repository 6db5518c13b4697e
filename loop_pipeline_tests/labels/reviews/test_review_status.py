"""What `loop review` prints from a real store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.labels.quality.inputs import refresh_quality
from loop_pipeline.labels.reviews.queue import take_reviews_in, update_queue
from loop_pipeline.labels.reviews.review_status import describe
from loop_pipeline.settings import LoopSettings
from loop_pipeline.traces.ingest import import_file

Say = Callable[..., list[str]]


@pytest.fixture
def settings(tmp_path: Path) -> LoopSettings:
    return LoopSettings.model_validate({"home": tmp_path})


@pytest.fixture
def say(engine: Engine, jsonl: Callable[..., Path]) -> Say:
    """Brings feedback in: (prompt id, kind, who, value)."""

    def said(*words: tuple[str, str, str, float]) -> list[str]:
        now = dt.datetime.now(dt.UTC).isoformat()
        lines = [
            {"prompt_id": p, "kind": kind, "actor": who, "value": value, "ts": now}
            for p, kind, who, value in words
        ]
        import_file(engine, jsonl(*lines, name="said.jsonl"), reviews=True)
        return take_reviews_in(engine)

    return said


@pytest.fixture
def desk_of(
    engine: Engine, trace: Callable[..., Any], jsonl: Callable[..., Path], add_signals: Any
) -> Callable[..., None]:
    """Puts traces p0, p1, … with signals into the store, all drawn for review."""

    def make(number: int, **fields: Any) -> None:
        import_file(engine, jsonl(*(trace(i, **fields) for i in range(number))))
        add_signals(engine, [f"p{i}" for i in range(number)])
        update_queue(engine, base_rate=1.0)

    return make


def test_the_queue_is_described(
    engine: Engine, desk_of: Any, say: Say, settings: LoopSettings
) -> None:
    desk_of(30)
    crew = ("ann", "bob", "eve")
    words = [(f"p{i}", "review", who, float(who != "eve")) for i in range(20) for who in crew]
    warnings = say(*words)
    assert [text.split()[0] for text in warnings] == ["eve"]
    lines = describe(engine, settings)
    assert lines[0] == "30 of 30 answers drawn: 10 open, 0 wait for a second reviewer, 20 done"
    assert lines[1].startswith("all tasks: 20 reviews, 0.0% bad; ")
    assert lines[-1] == warnings[0]


def test_judges_are_held_against_people_and_thresholds_in_force_are_quoted(
    engine: Engine, desk_of: Any, say: Say, settings: LoopSettings
) -> None:
    desk_of(240, task="intent")
    bad = {f"p{i}" for i in range(0, 240, 8)}  # 12.5%: by the plan's own reckoning never enough
    reviews = [(f"p{i}", "review", "ann", float(f"p{i}" not in bad)) for i in range(240)]
    right = [(p, "judge", "fine-1", good) for p, _, _, good in reviews]
    wrong = [(p, "judge", "against", 1 - good) for p, _, _, good in reviews]
    say(*reviews, *right, *wrong)
    before = describe(engine, settings)
    assert "no number of reviews gives it" in before[1]
    model = refresh_quality(engine, settings).model
    assert [promise.threshold is not None for promise in model.promises.values()] == [True]
    lines = describe(engine, settings)
    plan = [line for line in lines if line.startswith(("all tasks", "intent"))]
    assert len(plan) == 2
    assert not [line for line in plan if "no number of reviews" in line or " more (" in line]
    assert "1 of 1 thresholds are in force" in plan[0]
    assert "a threshold is in force: at least 95% of unopposed answers" in plan[1]
    judges = {line.split()[1].rstrip(":"): line for line in lines if line.startswith("judge ")}
    assert "kappa 1.00 [0.9" in judges["fine-1"]
    assert "kappa -0.2" in judges["against"]
    assert "it contradicts people, so it has no say" in judges["against"]
    assert "people find 88% of them good, the judge 12%" in judges["against"]
    say(*[(f"p{i}", "review", "bob", 0.0) for i in range(3)])
    assert "refresh_quality" not in "".join(describe(engine, settings))  # no answer more
