"""Is an active choice of reviews better than today's three to one, at equal validity?

    OMP_NUM_THREADS=1 python -m benchmarks.review_draw [draws]

The answers of `benchmarks.quality_promise`, whose truth is known, and three draws with the same
expected number of reviews, each with its chance logged: all alike; three times the chance where
there is a doubt, as the loop draws; and in proportion to the root of P(good) (1 - P(good)), which
is best for a mean, with a floor of 0.3 of the average chance. Each draw runs the whole chain (fit,
calibrate, interval of the mean, thresholds) and is held against 10,000 other answers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality_promise import ACTIONS, PROMISE, simulated
from benchmarks.record import Start, record, table
from loop_pipeline.labels.quality.model import QualityModel, fit_quality
from loop_pipeline.labels.quality.thresholds import threshold_of
from loop_pipeline.labels.reviews.draw import review_probability
from loop_pipeline.stats.calibration import reliability
from loop_pipeline.stats.sampling import uniform_sample

DRAWS = 200
REVIEWS = 600
ANSWERS = 2_000  # among which the reviews are drawn
FLOOR = 0.3
SHARES = ("covers the truth", "promises broken", "kept of all answers", "no threshold")


def chances(frame: pd.DataFrame, score: pd.Series, tasks: pd.Series) -> dict[str, pd.Series]:
    """The chance of each answer's review, by draw; ``REVIEWS`` expected in each."""
    known = pd.DataFrame({"score": score, "task": tasks})
    known["action"] = np.select([frame["accepted"] == 1, frame["rejected"] == 1], ACTIONS, None)
    quartiles = known.groupby("task")["score"].quantile(0.25).to_dict()
    active = np.sqrt(score * (1 - score))
    wanted = {
        "all alike": pd.Series(1.0, index=frame.index),
        "three to one (the loop)": review_probability(known, base_rate=0.1, quartiles=quartiles)[
            "p_review"
        ],
        "active, root of P(1 - P)": np.maximum(active / active.mean(), FLOOR),
    }
    return {name: _scaled(chance) for name, chance in wanted.items()}


def _scaled(chance: pd.Series) -> pd.Series:
    for _ in range(20):  # what is cut off at 1 goes to the others
        chance = (chance * REVIEWS / chance.sum()).clip(upper=1.0)
    return chance


def one_draw(draw: int, earlier: QualityModel, world: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Every design on the same answers."""
    everyone, their_tasks, truth = world
    rng = np.random.default_rng(draw)
    frame, tasks, good = simulated(rng, ANSWERS)
    points, lines = rng.random(ANSWERS), []
    for name, chance in chances(frame, earlier.predict(frame, tasks), tasks).items():
        drawn = chance[points < chance]
        verdicts = good.loc[drawn.index].to_frame("good")
        model = fit_quality(frame, tasks, verdicts, drawn, **PROMISE).model
        mean = model.quality[""]
        value = model.predict(everyone, their_tasks)
        held = threshold_of(model.promises, their_tasks)
        for task in ("a", "b"):
            mine = their_tasks == task
            above = (value >= held) & mine
            lines.append(
                {
                    "draw": name,
                    "reviews": len(drawn),
                    "left as a uniform sample": int(uniform_sample(drawn).sum()),
                    "width of the mean's interval": mean.high - mean.low,
                    "covers the truth": mean.low <= good.mean() <= mean.high,
                    "AUC": reliability(value.to_numpy(), truth.to_numpy(bool))["auc"],
                    "kept of all answers": above.sum() / mine.sum(),
                    "no threshold": not above.any(),
                    "promises broken": bool(
                        above.any() and truth[above].mean() < PROMISE["target_precision"]
                    ),
                }
            )
    return lines


def main(draws: int = DRAWS) -> None:
    """Print a table, and write it down."""
    start, world = Start(), simulated(np.random.default_rng(99), 10_000)
    known, own, truth = simulated(np.random.default_rng(98), 300)
    earlier = fit_quality(known, own, truth.to_frame("good"), None, **PROMISE).model
    lines = [line for draw in range(draws) for line in one_draw(draw, earlier, world)]
    found = pd.DataFrame(lines).groupby("draw", sort=False).mean().reset_index()
    found.insert(1, "kind", np.where(found["draw"].str.contains("loop"), "ours", "control"))
    title = f"{REVIEWS} reviews of {ANSWERS} answers, {draws} draws"
    sys.stdout.write(f"{title}\n{found.round(3).to_string(index=False)}\n")
    record(__file__, __doc__, [table(title, found, dict.fromkeys(SHARES, "share"))], start)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
