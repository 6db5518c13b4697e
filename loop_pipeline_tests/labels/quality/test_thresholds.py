import numpy as np
import pandas as pd
from scipy.special import expit

from loop_pipeline.labels.quality.thresholds import REST, promises, threshold_of

TARGET = {"target_precision": 0.9, "delta": 0.05}


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
