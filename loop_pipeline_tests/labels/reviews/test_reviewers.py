"""Reviewers with known truth: who is reliable, and what is decided when they disagree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.labels.reviews.reviewers import (
    MIN_OVERLAPS,
    newest_words,
    relied_on,
    verdicts,
    weigh_reviewers,
)

HONEST = (0.95, 0.92, 0.90, 0.85, 0.80)
WITH_A_COIN = (0.95, 0.90, 0.85, 0.80, 0.5)


def _crowd(
    skills: tuple[float, ...], *, items: int, each: int = 3, seed: int = 0
) -> tuple[pd.DataFrame, pd.Series]:
    """Verdicts of reviewers r0, r1, … who are right as often as their skill; 70% are good."""
    rng = np.random.default_rng(seed)
    truth = pd.Series(rng.random(items) < 0.7, index=[f"p{i}" for i in range(items)])
    rows: list[tuple[Any, ...]] = []
    for prompt_id, good in truth.items():
        for who in rng.choice(len(skills), each, replace=False):
            says = good == (rng.random() < skills[who])
            rows.append((prompt_id, f"r{who}", says, len(rows)))
    return _reviews(rows), truth


def _reviews(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["prompt_id", "actor", "value", "ts"])
    return frame.assign(kind="review", value=frame["value"].astype(float))


def test_a_coin_loses_its_weight_is_named_and_the_rest_decides_better_than_the_majority() -> None:
    named, weights, ours, majority = [], [], [], []
    for seed in range(20):
        reviews, truth = _crowd(WITH_A_COIN, items=400, seed=seed)
        crew = weigh_reviewers(reviews).set_index("actor")
        named.append(list(crew.index[crew["warning"].notna()]))
        weights.append(crew["weight"])
        found = verdicts(reviews, crew.reset_index())["good"]
        ours.append((found == truth.loc[found.index]).mean())
        shares = reviews.groupby("prompt_id")["value"].mean() > 0.5
        majority.append((shares == truth.loc[shares.index]).mean())
    assert np.mean([names == ["r4"] for names in named]) >= 0.95
    mean = pd.concat(weights, axis=1).mean(axis=1)
    assert mean["r4"] < 0.1
    assert mean.drop("r4").min() > 0.7
    assert list(mean.sort_values(ascending=False).index) == ["r0", "r1", "r2", "r3", "r4"]
    assert np.mean(ours) > np.mean(majority) + 0.01


def test_a_warning_says_who_and_why() -> None:
    reviews, _ = _crowd(WITH_A_COIN, items=400, seed=1)
    crew = weigh_reviewers(reviews).set_index("actor")
    text = str(crew.loc["r4", "warning"])
    assert text.startswith("r4 answers like a coin")
    assert f"on {crew.loc['r4', 'overlaps']} answers that others reviewed" in text


@pytest.mark.parametrize("items", [20, 100])
def test_honest_reviewers_are_rarely_warned(items: int) -> None:
    draws = [weigh_reviewers(_crowd(HONEST, items=items, seed=s)[0]) for s in range(100)]
    assert np.mean([crew["warning"].isna().all() for crew in draws]) >= 0.95


def test_rates_are_recovered() -> None:
    reviews, _ = _crowd(HONEST, items=2000, seed=3)
    crew = weigh_reviewers(reviews).set_index("actor")
    assert list(crew.index) == ["r0", "r1", "r2", "r3", "r4"]
    assert crew["finds_good"].tolist() == pytest.approx(HONEST, abs=0.03)
    assert crew["finds_bad"].tolist() == pytest.approx(HONEST, abs=0.05)


def test_who_says_good_to_everything_is_a_coin_too() -> None:
    reviews, _ = _crowd((0.95, 0.9, 0.9, 0.85), items=300, seed=4)
    reviews.loc[reviews["actor"] == "r3", "value"] = 1.0
    crew = weigh_reviewers(reviews).set_index("actor")
    assert "r3 answers like a coin" in str(crew.loc["r3", "warning"])
    assert crew["warning"].notna().sum() == 1


def test_without_overlaps_a_verdict_is_what_was_said() -> None:
    reviews, _ = _crowd((0.9, 0.5, 0.7), items=200, each=1)
    crew = weigh_reviewers(reviews)
    assert (crew["overlaps"] == 0).all()
    assert crew["warning"].isna().all()
    found = verdicts(reviews, crew)
    said = reviews.set_index("prompt_id")["value"] == 1
    assert (found["good"] == said.loc[found.index]).all()
    assert not found["contested"].any()
    assert set(found["p_good"].round(3)) == {0.8, 0.2}


def test_few_reviews_are_decided_by_the_majority_then_by_the_newest_word(
    make_feedback: Callable[..., pd.DataFrame],
) -> None:
    def review(prompt_id: str, actor: str | None, value: float) -> dict[str, Any]:
        return {"prompt_id": prompt_id, "kind": "review", "actor": actor, "value": value}

    feedback = make_feedback(
        *(review("majority", actor, value) for actor, value in [("a", 1), ("b", 0), ("c", 1)]),
        *(review("tie", actor, value) for actor, value in [("a", 1), ("b", 0)]),
        *(review("changed", "a", value) for value in (0, 0, 1)),
        review("unsigned", None, 0),
        {"prompt_id": "user", "kind": "rejected"},
    )
    expected = {"majority": True, "tie": False, "changed": True, "unsigned": False}
    assert verdicts(feedback)["good"].to_dict() == expected
    assert verdicts(feedback.sample(frac=1, random_state=1))["good"].to_dict() == expected
    words = newest_words(feedback)
    assert len(words[words["prompt_id"] == "changed"]) == 1
    found = verdicts(feedback)
    assert found["contested"].to_dict() == {name: name in ("majority", "tie") for name in expected}
    assert found["reviews"].to_dict() == {"majority": 3, "tie": 2, "changed": 1, "unsigned": 1}
    empty = verdicts(make_feedback())["good"]
    assert empty.empty
    assert empty.dtype == bool


def test_one_who_is_reliable_outweighs_two_coins() -> None:
    reviews, _ = _crowd((0.97, 0.97, 0.5, 0.5), items=400, seed=6)
    crew = weigh_reviewers(reviews)
    assert (crew["overlaps"] >= MIN_OVERLAPS).all()
    split = _reviews([("x", "r0", False, 0), ("x", "r2", True, 1), ("x", "r3", True, 2)])
    assert not verdicts(split, crew).loc["x", "good"]


def test_a_coin_and_a_tie_decide_nothing_and_an_untested_reviewer_does() -> None:
    reviews, _ = _crowd(WITH_A_COIN, items=400, seed=7)
    crew = weigh_reviewers(reviews)
    alone = _reviews(
        [
            *[("coin", "r4", True, 0), ("honest", "r0", False, 1), ("new", "somebody", True, 2)],
            *[("tie", "new-1", True, 3), ("tie", "new-2", False, 4)],
        ]
    )
    assert relied_on(verdicts(alone, crew))["good"].to_dict() == {"honest": False, "new": True}
