"""What is the 5% of a quality threshold for: a task, all tasks, or all fits there will ever be?

    OMP_NUM_THREADS=1 python -m benchmarks.quality_fits [draws]

Four tasks with 90% good answers, P(bad) = 0.4 (1 - s)^3 for a score s that is uniform, so that the
truth of every threshold is known exactly. Each week has 25 reviews more of each task (225 at
first), and all thresholds are tested again on all reviews so far, twenty times. The chance of 5% is
given to each task at each fit, as the loop does; shared over the tasks; or shared over the tasks
and all fits (6 / pi^2 t^2).
"""

from __future__ import annotations

import math
import sys

import numpy as np
import pandas as pd

from benchmarks.record import Start, record, table
from loop_pipeline.labels.quality.thresholds import promises

DRAWS = 100
FITS = 20
TASKS = ("a", "b", "c", "d")
FIRST = 200
WEEKLY = 25
TARGET = 0.95
DELTA = 0.05
SHARES = (
    "any broken in 20 fits",
    "any task broken at a fit",
    "kept of all answers",
    "no threshold",
)


def shared(how: str, fit: int) -> float:
    """The chance that one task may spend at one fit."""
    over = {"each task and fit (the loop)": 1.0, "shared over tasks": 1.0 / len(TASKS)}
    return DELTA * over.get(how, 6 / (math.pi**2 * fit**2) / len(TASKS))


def draw(seed: int, how: str) -> list[dict[str, bool | float]]:
    """Twenty weekly fits of one installation: a line a fit."""
    rng, most = np.random.default_rng(seed), FIRST + WEEKLY * FITS
    score = {task: rng.random(most) for task in TASKS}
    good = {task: rng.random(most) >= 0.4 * (1 - score[task]) ** 3 for task in TASKS}
    lines = []
    for fit in range(1, FITS + 1):
        n = FIRST + WEEKLY * fit
        index = pd.RangeIndex(n * len(TASKS)).astype(str)
        made = promises(
            pd.Series(np.concatenate([score[task][:n] for task in TASKS]), index),
            pd.Series(np.concatenate([good[task][:n] for task in TASKS]), index),
            pd.Series(np.repeat(TASKS, n), index),
            pd.Series(True, index),
            target_precision=TARGET,
            delta=shared(how, fit),
            auc=0.9,
        )
        held = [made[task].threshold if task in made else None for task in TASKS]
        found = [t for t in held if t is not None]
        # Among the answers from t on, 0.1 (1 - t)^3 are bad.
        lines.append(
            {
                "broken": any(0.1 * (1 - t) ** 3 > 1 - TARGET for t in found),
                "kept": sum(1 - t for t in found) / len(TASKS),
                "none": held.count(None) / len(TASKS),
            }
        )
    return lines


def main(draws: int = DRAWS) -> None:
    """Print a table, and write it down."""
    start, lines = Start(), []
    for how in ("each task and fit (the loop)", "shared over tasks", "shared over tasks and fits"):
        found = [pd.DataFrame(draw(seed, how)) for seed in range(draws)]
        every = pd.concat(found)
        lines.append(
            {
                "the 5% are for": how,
                "kind": "ours" if "loop" in how else "control",
                SHARES[0]: np.mean([fits["broken"].any() for fits in found]),
                SHARES[1]: every["broken"].mean(),
                SHARES[2]: every["kept"].mean(),
                SHARES[3]: every["none"].mean(),
            }
        )
    frame = pd.DataFrame(lines)
    title = f"Four tasks, {FITS} weekly fits, {draws} installations"
    sys.stdout.write(f"{title}\n{frame.round(3).to_string(index=False)}\n")
    record(__file__, __doc__, [table(title, frame, dict.fromkeys(SHARES, "share"))], start)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
