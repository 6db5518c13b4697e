"""How often does a quality threshold break its promise, and how many answers does it keep?

    OMP_NUM_THREADS=1 python -m benchmarks.quality_promise [draws]

Answers of two tasks whose truth is known. Reviews are drawn as the loop draws them once it has a
score: with three times the chance for low scores and refusals. Each draw runs the whole chain (fit,
calibrate, test); the truth is the share of good answers above the threshold among 40,000 others.
The control is the loosest threshold that reaches the target on the same reviews.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.labels.quality.model import QualityModel, fit_quality, score_quality
from loop_pipeline.labels.reviews.draw import draw_reviews
from loop_pipeline.stats.sampling import uniform_sample

DRAWS = 600
PROMISE = {"target_precision": 0.95, "delta": 0.05}
BASE_RATE = 0.2  # of the simulated draw; only the ratio of the chances matters
ACTIONS = ("accepted", "rejected")
SHARES = (
    "promises broken",
    "allowed, three sd of chance",
    "kept of all answers",
    "no threshold",
)


class Reviewed(NamedTuple):
    """Answers that people have looked at: signals, task, truth, chance of having been drawn."""

    rows: pd.DataFrame
    tasks: pd.Series
    good: pd.Series
    chance: pd.Series


def simulated(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Answers of two tasks whose truth is known: 85% and 93% are good; signals are noisy."""
    index = pd.Index([f"s{i}" for i in range(n)])
    task = pd.Series(rng.choice(["a", "b"], n), index)
    good = rng.random(n) < np.where(task == "a", 0.85, 0.93)
    seen = rng.random(n) < np.where(good, 0.5, 0.8)
    accepted = seen & (rng.random(n) < np.where(good, 0.93, 0.65))
    frame = pd.DataFrame(
        {
            "grounding": np.where(good, rng.beta(5, 2, n), rng.beta(2, 3, n)),
            "accepted": accepted,
            "rejected": seen & ~accepted,
            "no_action": ~seen,
            "log_words": rng.normal(3, 1, n),
        },
        index=index,
    )
    return frame.astype(float), task, pd.Series(good, index)


def reviewed(draw: int, reviews: int, earlier: QualityModel) -> Reviewed:
    """About so many answers, drawn for review as the loop draws them once it has a score."""
    frame, task, good = simulated(np.random.default_rng(draw), round(reviews / (1.5 * BASE_RATE)))
    known = pd.DataFrame({"score": earlier.predict(frame, task), "task": task})
    known["action"] = np.select([frame["accepted"] == 1, frame["rejected"] == 1], ACTIONS, None)
    quartiles = known.groupby("task")["score"].quantile(0.25).to_dict()
    drawn = draw_reviews(known, seed=draw, base_rate=BASE_RATE, quartiles=quartiles)
    chance = drawn[drawn["status"] == "open"].set_index("prompt_id")["p_review"]
    return Reviewed(*(part.loc[chance.index] for part in (frame, task, good)), chance)


def promise_table(draws: int) -> pd.DataFrame:
    """The whole chain on each draw: fit, calibrate, test; then the truth on 40,000 answers."""
    frame, task, good = simulated(np.random.default_rng(99), 40_000)
    known, own, truth = simulated(np.random.default_rng(98), 300)
    earlier = fit_quality(known, own, truth.to_frame("good"), None, **PROMISE).model
    lines = []
    for labels in (300, 600):
        found: dict[str, list[float | None]] = {"swept": [], "loop_pipeline": []}
        kept: dict[str, list[float]] = {"swept": [], "loop_pipeline": []}
        sizes: list[tuple[int, int]] = []
        for draw in range(draws):
            rows, own, truth, chance = reviewed(draw, labels, earlier)
            sizes.append((len(rows), int(uniform_sample(chance).sum())))
            verdicts = truth.to_frame("good")
            model = fit_quality(rows, own, verdicts, chance, **PROMISE).model
            scores = score_quality(model, frame, task, verdicts.iloc[:0]).set_index("prompt_id")
            value = scores["score"].astype(float)
            held = scores["threshold"].astype(float)
            fitted = model.predict(rows, own)
            swept = task.map({t: _swept(fitted[own == t], truth[own == t]) for t in ("a", "b")})
            for name, at in (("loop_pipeline", held), ("swept", swept.astype(float))):
                for t in ("a", "b"):
                    above = (value >= at) & (task == t)
                    kept[name].append(float(above.sum() / (task == t).sum()))
                    found[name].append(float(good[above].mean()) if above.any() else None)
        for name, precisions in found.items():
            broken = np.mean(
                [p is not None and p < PROMISE["target_precision"] for p in precisions]
            )
            lines.append(
                {
                    "threshold": name,
                    "kind": "control" if name == "swept" else "ours",
                    "reviews of both tasks": np.mean(sizes, axis=0)[0],
                    "left as a uniform sample": np.mean(sizes, axis=0)[1],
                    "promises broken": broken,
                    "allowed, three sd of chance": PROMISE["delta"] + 3 * _sd(2 * draws),
                    "kept of all answers": np.mean(kept[name]),
                    "no threshold": np.mean([p is None for p in precisions]),
                }
            )
    return pd.DataFrame(lines)


def _sd(n: int) -> float:
    return float(np.sqrt(PROMISE["delta"] * (1 - PROMISE["delta"]) / n))


def _swept(score: pd.Series, good: pd.Series) -> float | None:
    """The loosest threshold whose precision on these rows is the target: what many teams do."""
    order = np.argsort(-score.to_numpy())
    precision = np.cumsum(good.to_numpy()[order]) / np.arange(1, len(score) + 1)
    fine = np.flatnonzero(precision >= PROMISE["target_precision"])
    return float(score.to_numpy()[order[fine[-1]]]) if len(fine) else None


def main(draws: int = DRAWS) -> None:
    """Print a table, and write it down."""
    start, found = Start(), promise_table(draws)
    title = f"A promise of 95% good answers, {draws} draws of the reviews"
    sys.stdout.write(f"{title}\n{found.round(3).to_string(index=False)}\n")
    record(__file__, __doc__, [table(title, found, dict.fromkeys(SHARES, "share"))], start)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
