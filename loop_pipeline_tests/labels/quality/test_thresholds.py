from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from loop_pipeline.labels.quality.thresholds import REST, promises, threshold_of

TARGET: dict[str, Any] = {"target_precision": 0.9, "delta": 0.05}


def _rows(sizes: dict[str, int], seed: int, offset: float = 2.0):
    rng = np.random.default_rng(seed)
    tasks = np.concatenate([[name] * n for name, n in sizes.items()])
    index = pd.Index([f"p{i}" for i in range(len(tasks))])
    score = pd.Series(rng.random(len(tasks)), index=index)
    good = pd.Series(rng.random(len(tasks)) < expit(6 * (score - 0.5) + offset), index=index)
    return score, good, pd.Series(tasks, index=index)


def _made(sizes: dict[str, int], *, seed: int = 0, auc: float = 0.8, offset: float = 2.0):
    score, good, tasks = _rows(sizes, seed, offset)
    everyone = pd.Series(True, index=score.index)
    return promises(score, good, tasks, everyone, auc=auc, **TARGET), tasks


def test_large_tasks_have_their_own_threshold_and_small_ones_share() -> None:
    made, tasks = _made({"big": 400, "large": 300, "small": 40, "tiny": 30})
    assert set(made) == {"big", "large", REST}
    assert made[REST].tasks == ["small", "tiny"]
    assert made[REST].reviews == 70
    held = threshold_of(made, pd.concat([tasks, pd.Series(["never seen"], index=["new"])]))
    assert set(held.loc[tasks.index[tasks == "big"]]) == {made["big"].threshold}
    rest = made[REST].threshold
    assert (held["new"] == rest) if rest is not None else np.isnan(held["new"])


def test_each_tasks_promise_is_kept() -> None:
    broken = tried = 0
    score, good, tasks = _rows({"big": 20_000, "large": 20_000}, 10_000)
    for seed in range(100):
        made, _ = _made({"big": 300, "large": 200}, seed=seed)
        for name in ("big", "large"):
            threshold = made[name].threshold
            if threshold is not None:
                kept = (tasks == name) & (score >= threshold)
                broken += good[kept].mean() < TARGET["target_precision"]
                tried += 1
    assert tried > 100
    assert broken / 200 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_no_skill_and_no_hope_say_so() -> None:
    made, tasks = _made({"big": 400}, auc=0.52)
    assert "hardly tell good from bad (AUC 0.52" in made["big"].reason
    assert threshold_of(made, tasks).isna().all()
    hopeless, _ = _made({"big": 400}, offset=-2.0)
    assert "better signals or answers will" in hopeless["big"].reason
    few, _ = _made({"a": 10, "b": 15}, offset=6.0)
    assert set(few) == {REST}
    assert "more reviews are needed" in few[REST].reason


def _conversations(
    rng: np.random.Generator, rows: int, unit: int, *, counted: bool
) -> tuple[float | None, float]:
    """The threshold on reviews of conversations that are good or bad together, and true errors."""
    code = np.arange(rows) // unit
    score, chance = rng.random(rows), lambda at: 0.4 * (1 - at) ** 3
    luck = np.sqrt(0.9) * rng.normal(size=code[-1] + 1)[code] + np.sqrt(0.1) * rng.normal(size=rows)
    index = pd.Index([f"p{i}" for i in range(rows)])
    good = pd.Series(luck >= norm.ppf(chance(score)), index=index)
    units = pd.Series(code, index=index)
    made = promises(
        pd.Series(score, index=index),
        good,
        pd.Series("t", index=index),
        pd.Series(True, index=index),
        target_precision=0.95,
        delta=0.05,
        auc=0.8,
        units=units if counted else None,
    )
    at = made["t"].threshold
    return at, 0.0 if at is None else 0.1 * (1 - at) ** 3


@pytest.mark.parametrize("unit", [5, 10])
def test_the_promise_holds_on_reviews_of_conversations(unit: int) -> None:
    rng, draws = np.random.default_rng(1), 150
    errors = [_conversations(rng, 600, unit, counted=True)[1] for _ in range(draws)]
    assert np.mean(np.array(errors) > 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)


def test_the_same_harness_notices_reviews_that_count_as_independent() -> None:
    rng = np.random.default_rng(1)
    errors = [_conversations(rng, 600, 10, counted=False)[1] for _ in range(100)]
    assert np.mean(np.array(errors) > 0.05) > 0.08


def test_it_is_said_how_many_independent_reviews_those_of_conversations_are_worth() -> None:
    score, good, tasks = _rows({"big": 400}, 0, offset=5.0)
    everyone = pd.Series(True, index=score.index)
    units = pd.Series(np.arange(400) // 4, index=score.index)
    made = promises(score, good, tasks, everyone, auc=0.8, units=units, **TARGET)
    assert "independent ones" in made["big"].reason
