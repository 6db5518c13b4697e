"""The review queue in a real store: drawn once, again when users react, closed by voices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, update

from loop_pipeline.labels.reviews import queue
from loop_pipeline.labels.reviews.queue import (
    closed,
    open_items,
    take_reviews_in,
    update_queue,
)
from loop_pipeline.store.database import read, upsert
from loop_pipeline.store.tables import (
    QualityScoreRow,
    ReviewerRow,
    ReviewItemRow,
    TraceSignalRow,
)
from loop_pipeline.traces.ingest import import_file


@pytest.fixture
def desk_of(
    engine: Engine, trace: Callable[..., Any], jsonl: Callable[..., Path], add_signals: Any
) -> Callable[..., None]:
    """Puts traces p0, p1, … with signals into the store."""

    def make(number: int, start: int = 0, **signals: Any) -> None:
        import_file(engine, jsonl(*(trace(i) for i in range(start, start + number))))
        add_signals(engine, [f"p{i}" for i in range(start, start + number)], **signals)

    return make


def _items(engine: Engine) -> pd.DataFrame:
    return read(engine, ReviewItemRow).set_index("prompt_id")


def _say(engine: Engine, jsonl: Callable[..., Path], *words: tuple[str, str, int]) -> list[str]:
    now = dt.datetime.now(dt.UTC)
    lines = [
        {"prompt_id": p, "kind": "review", "actor": who, "value": value, "ts": now.isoformat()}
        for p, who, value in words
    ]
    import_file(engine, jsonl(*lines, name="reviews.jsonl"), reviews=True)
    return take_reviews_in(engine)


def test_only_what_is_new_or_reacted_to_is_drawn_again(
    engine: Engine, desk_of: Any, jsonl: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "PART", 7)  # 40 traces are six parts
    desk_of(40)
    assert len(update_queue(engine, base_rate=0.2)) == 40
    before = _items(engine)
    assert set(before["status"]) == {"open", "skipped"}
    assert set(before["p_review"]) == {0.2}
    assert update_queue(engine, base_rate=0.2).empty

    desk_of(10, start=40)
    assert set(update_queue(engine, base_rate=0.2)["prompt_id"]) == {f"p{i}" for i in range(40, 50)}
    late = {"prompt_id": "p3", "kind": "rejected", "ts": "2026-09-05T00:00:00Z"}
    import_file(engine, jsonl(late, name="late.jsonl"), reviews=True)
    with engine.begin() as connection:
        connection.execute(
            update(TraceSignalRow).where(TraceSignalRow.prompt_id == "p3").values(action="rejected")
        )
    rows = update_queue(engine, base_rate=0.2)
    assert rows[["prompt_id", "p_review", "reason"]].to_numpy().tolist() == [
        ["p3", pytest.approx(0.6), "rejected"]
    ]
    assert update_queue(engine, base_rate=0.2).empty
    others = _items(engine).drop("p3")
    assert others.loc[before.index.drop("p3")].equals(before.drop("p3"))


def test_what_a_reviewer_found_never_changes_the_chance_of_a_review(
    engine: Engine, desk_of: Any, jsonl: Callable[..., Path]
) -> None:
    desk_of(20)
    update_queue(engine, base_rate=0.5)
    _say(engine, jsonl, *((f"p{i}", "ann", 0) for i in range(20)))
    assert update_queue(engine, base_rate=0.5).empty
    score = {"score": 0.0, "threshold": None, "because": {}, "version": None, "day": "2026-09-01"}
    desk_of(2, start=20)
    with engine.begin() as connection:
        rows = [
            {"prompt_id": "p20", "origin": "human", **score},
            {"prompt_id": "p21", "origin": "model", **score},
        ]
        upsert(connection, QualityScoreRow, rows)
    drawn = update_queue(engine, base_rate=0.1).set_index("prompt_id")
    assert drawn["reason"].to_dict() == {"p20": "base rate", "p21": "low score"}


def test_items_are_done_or_wait_for_another_voice(
    engine: Engine, desk_of: Any, jsonl: Callable[..., Path]
) -> None:
    desk_of(6)
    update_queue(engine, base_rate=1.0)
    _say(engine, jsonl, ("p0", "ann", 1), ("p1", "ann", 1), ("p1", "bob", 0))
    items = _items(engine)
    assert items["status"].to_dict() == {
        "p0": "done",
        "p1": "second",
        **{f"p{i}": "open" for i in range(2, 6)},
    }
    assert items.loc["p1", "reason"] == "base rate; reviewers disagree"
    assert open_items(engine)["prompt_id"].iloc[0] == "p1"  # a second opinion comes first
    assert "p1" not in set(open_items(engine, reviewer="ann")["prompt_id"])
    assert "p1" in set(open_items(engine, reviewer="cem", limit=1)["prompt_id"])
    assert len(open_items(engine, limit=2)) == 2
    _say(engine, jsonl, ("p1", "cem", 0))
    assert _items(engine).loc["p1", "status"] == "done"
    assert set(read(engine, ReviewerRow)["actor"]) == {"ann", "bob", "cem"}


def test_doubted_verdicts_wait_for_a_second_voice_and_then_people_have_decided(
    engine: Engine, desk_of: Any, jsonl: Callable[..., Path]
) -> None:
    desk_of(2)
    update_queue(engine, base_rate=1.0)
    _say(engine, jsonl, ("p0", "ann", 1), ("p1", "ann", 1))
    doubts = pd.DataFrame({"prompt_id": ["p0"], "reason": ["the score says bad"]})
    take_reviews_in(engine, doubts)
    assert _items(engine)["status"].to_dict() == {"p0": "second", "p1": "done"}
    take_reviews_in(engine)  # without an audit the doubt stays
    assert _items(engine).loc["p0", "status"] == "second"
    assert _items(engine).loc["p0", "reason"] == "base rate; the score says bad"
    _say(engine, jsonl, ("p0", "bob", 1))
    take_reviews_in(engine, doubts)
    assert _items(engine).loc["p0", "status"] == "done"


def test_what_only_a_coin_has_reviewed_waits_for_somebody_else(
    engine: Engine, desk_of: Any, jsonl: Callable[..., Path]
) -> None:
    desk_of(60)
    update_queue(engine, base_rate=1.0)
    honest = [(f"p{i}", who, int(i % 2)) for i in range(40) for who in ("ann", "bob")]
    guesses = [(f"p{i}", "eve", int(i % 4 < 2)) for i in range(41)]
    _say(engine, jsonl, *honest, *guesses, ("p50", "ann", 1))
    items = _items(engine)
    assert (items.loc[[f"p{i}" for i in range(40)], "status"] == "done").all()  # three voices
    assert items.loc["p40", "status"] == "second"
    assert items.loc["p40", "reason"] == "base rate; its reviewer answers like a coin"
    assert items.loc["p50", "status"] == "done"


def test_volunteered_reviews_stay_outside_the_draw() -> None:
    items = pd.DataFrame(
        [("a", 0.1, "base rate", "skipped")], columns=["prompt_id", "p_review", "reason", "status"]
    )
    found = pd.DataFrame({"reviews": [1], "contested": [False], "p_good": [0.8]}, index=["a"])
    assert closed(items, found).empty


def test_the_first_ones_done_are_a_sample_of_all_that_were_drawn(
    engine: Engine, desk_of: Any
) -> None:
    desk_of(400)
    desk_of(400, start=400, action="rejected")
    update_queue(engine, base_rate=0.3)
    order = open_items(engine)
    share = order["reason"].eq("rejected").mean()
    assert share > 0.65  # 0.9 / (0.9 + 0.3)
    assert abs(order.head(150)["reason"].eq("rejected").mean() - share) < 0.12
