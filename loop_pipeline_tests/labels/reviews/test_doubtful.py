from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.labels.reviews.doubtful import doubtful


def _planted(n: int, wrong: int, seed: int) -> tuple[pd.DataFrame, pd.Series, set[str]]:
    """Verdicts of which some are planted the wrong way round, and a calibrated score (AUC 0.95)."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.7
    logit = np.where(truth, 1.0, -1.0) * 2.7 + 0.85 + rng.normal(0, 2.32, n)
    names = pd.Index([f"p{i}" for i in range(n)], name="prompt_id")
    flipped = rng.choice(n, wrong, replace=False)
    good = truth.copy()
    good[flipped] ^= True
    found = pd.DataFrame({"good": good, "reviews": 1, "contested": False}, index=names)
    return found, pd.Series(1 / (1 + np.exp(-logit)), index=names), set(names[flipped])


def test_planted_wrong_verdicts_are_found_and_none_is_changed() -> None:
    hits, shown = 0, 0
    for seed in range(5):
        found, scores, planted = _planted(1000, 20, seed)
        before = found.copy()
        doubts = doubtful(found, scores)
        assert found.equals(before)
        assert len(doubts) <= 20
        hits += len(planted & set(doubts["prompt_id"]))
        shown += len(doubts)
        assert doubts["reason"].str.match(r"a reviewer says (good|bad), the score says P").all()
    assert hits / 100 >= 0.4  # recall, of 20 in 1,000
    assert hits / shown >= 0.4  # chance: 0.02


def test_answers_on_which_several_have_spoken_are_left_alone() -> None:
    found, scores, _ = _planted(1000, 20, 0)
    first = doubtful(found, scores)["prompt_id"].iloc[0]
    found.loc[first, "reviews"] = 2
    assert first not in set(doubtful(found, scores)["prompt_id"])


@pytest.mark.parametrize("case", ["few", "all good", "no scores", "none"])
def test_without_enough_to_go_by_nothing_is_doubted(case: str) -> None:
    found, scores, _ = _planted(90 if case == "few" else 200, 5, 1)
    if case == "all good":
        found["good"] = True
    if case == "no scores":
        scores = scores * np.nan
    if case == "none":
        found = found.iloc[:0]
    assert list(doubtful(found, scores).columns) == ["prompt_id", "reason"]
    assert doubtful(found, scores).empty
