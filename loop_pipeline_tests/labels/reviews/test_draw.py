from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.labels.reviews.draw import draw_reviews, review_probability, reviews_needed
from loop_pipeline.labels.reviews.plan import review_plan
from loop_pipeline.stats.sampling import coin, uniform_sample


def _known(*rows: dict[str, Any]) -> pd.DataFrame:
    index = pd.Index([f"p{i}" for i in range(len(rows))], name="prompt_id")
    return pd.DataFrame(list(rows), index=index)


def _many(n: int = 4000) -> pd.DataFrame:
    """Half accepted, a quarter of them flagged; the others have no action."""
    rows = [
        {"action": "accepted" if i % 2 else None, "flag": i % 8 == 1, "task": "t"} for i in range(n)
    ]
    return _known(*rows)


def _draw(known: pd.DataFrame, **change: Any) -> pd.DataFrame:
    return draw_reviews(known, **({"seed": 1, "base_rate": 0.1} | change)).set_index("prompt_id")


def test_every_trace_has_a_chance_and_is_drawn_as_often_as_it_says() -> None:
    known = _many()
    rows = _draw(known)
    assert set(rows.index) == set(known.index)
    assert rows.equals(_draw(known.sample(frac=1, random_state=2)).loc[rows.index])
    assert set(rows["p_review"].round(6)) == {0.1, 0.3}
    for reason, members in rows.groupby("reason"):
        p = 0.3 if reason == "accepted but flagged" else 0.1
        assert (members["p_review"].round(6) == p).all()
        slack = 3 * np.sqrt(p * (1 - p) / len(members))
        assert abs((members["status"] == "open").mean() - p) <= slack
    other = _draw(known, seed=2)
    assert set(other.index[other["status"] == "open"]) != set(rows.index[rows["status"] == "open"])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, "base rate"),
        ({"action": "accepted", "thumb": 1.0, "judge": 0.9, "contract_valid": True}, "base rate"),
        ({"score": 0.6}, "base rate"),
        ({"score": 0.6, "task": "easy"}, "low score"),
        ({"score": 0.4, "task": "hard"}, "low score"),
        ({"action": "accepted", "flag": True}, "accepted but flagged"),
        ({"flag": True}, "flagged as hallucination"),
        ({"action": "accepted", "judge": 0.2}, "judge against action"),
        ({"action": "rejected", "judge": 0.8}, "judge against action; rejected"),
        ({"action": "modified", "thumb": 1.0}, "thumb against action; modified"),
        ({"rating": 0.25}, "low rating"),
        ({"regenerated": True}, "asked again"),
        ({"reasked_minutes": 2.0}, "asked again"),
        ({"contract_valid": False}, "breaks its contract"),
        ({"new_group": True}, "new group"),
    ],
)
def test_doubts_triple_the_chance_and_are_named(facts: dict[str, Any], reason: str) -> None:
    quartiles = {"easy": 0.8, "hard": 0.2}
    row = review_probability(_known(facts), base_rate=0.02, quartiles=quartiles).iloc[0]
    assert row["reason"] == reason
    assert row["p_review"] == pytest.approx(0.02 if reason == "base rate" else 0.06)


def test_a_chance_is_never_zero_and_never_above_one() -> None:
    assert _draw(_many(40), base_rate=0.9)["p_review"].max() == 1.0
    with pytest.raises(ValueError, match="review rate of 0"):
        _draw(_many(4), base_rate=0.0)


def test_late_feedback_only_adds_to_the_draw_and_the_chance_only_rises() -> None:
    known = _many()
    first = _draw(known.assign(flag=None))
    items = first.reset_index()
    items.loc[items["status"] == "open", "status"] = "done"
    second = _draw(known, earlier=items)
    drawn = set(first.index[first["status"] == "open"])
    assert (second.loc[list(drawn), "status"] == "done").all()  # what was drawn keeps its status
    newly = set(second.index[second["status"] == "open"])
    assert newly
    assert set(second.loc[list(newly), "reason"]) == {"accepted but flagged"}
    fresh = _draw(known)  # the same as if all had been known at once
    assert drawn | newly == set(fresh.index[fresh["status"] == "open"])
    assert second["p_review"].equals(fresh["p_review"])
    third = _draw(known.assign(flag=None), earlier=second.reset_index())
    assert third[["p_review", "reason"]].equals(second[["p_review", "reason"]])


def test_thinned_reviews_are_a_uniform_sample() -> None:
    p = pd.Series(
        np.where(np.arange(60_000) % 2, 0.3, 0.1), index=pd.RangeIndex(60_000).astype(str)
    )
    drawn = p[[coin(0, str(name)) < chance for name, chance in p.items()]]
    kept = drawn[uniform_sample(drawn)]
    share = (kept == 0.3).mean()
    assert abs(share - 0.5) <= 3 * np.sqrt(0.25 / len(kept))


def test_reviews_needed() -> None:
    promise = {"target_precision": 0.95, "delta": 0.05}
    assert reviews_needed(0, **promise) == 100
    assert reviews_needed(150, **promise) == 0
    some = reviews_needed(100, **promise, error_rate=0.02)
    assert some is not None
    assert 100 < some < 600
    assert reviews_needed(100, **promise, error_rate=0.06) is None


def _plan(good: list[bool], tasks: list[str | None], per_day: float = 10.0) -> list[str]:
    reviews = pd.DataFrame({"good": good, "task": tasks})
    return review_plan(reviews, target_precision=0.95, delta=0.05, per_day=per_day)


def test_the_plan_says_in_words_what_is_missing_and_for_how_long() -> None:
    lines = _plan([True] * 57 + [False] * 3, ["a"] * 30 + [None] * 30)
    assert [line.split(":")[0] for line in lines] == ["all tasks", "a", "no task"]
    assert lines[0].startswith("all tasks: 60 reviews, 5.0% bad; ")
    assert "a score of each answer: 40 more (about 4 days)" in lines[0]
    assert "a score of each answer: 70 more (about 14 days)" in lines[1]
    assert "a threshold with 95% good answers above it: " in lines[0]
    assert "no number of reviews gives it" in _plan([False] * 30 + [True] * 30, ["a"] * 60)[0]
    assert "nobody reviews now" in _plan([True] * 10, ["a"] * 10, per_day=0.0)[0]
    assert _plan([], [])[0].startswith("all tasks: 0 reviews, 0.0% bad; mean quality")


def test_with_the_reviews_of_the_plan_the_mean_is_as_sharp_as_it_says() -> None:
    line = _plan([True] * 45 + [False] * 15, ["a"] * 60)[0]
    more = int(line.split("within 5 points: ")[1].split()[0])
    n = 60 + more
    assert 1.96 * np.sqrt(0.25 * 0.75 / n) == pytest.approx(0.05, abs=0.003)
    assert "mean quality to within 5 points: enough" in _plan([True] * 380, ["a"] * 380)[0]
