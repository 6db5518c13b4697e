"""How many reviews are needed for which promise, in words.

Not here: the promises themselves (``labels/quality/thresholds.py``).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.labels.reviews.draw import MIN_LABELS, reviews_needed

HALF_WIDTH = 0.05
Z = 1.96  # of a 95% interval


def review_plan(
    reviews: pd.DataFrame,
    *,
    target_precision: float,
    delta: float,
    per_day: float,
    uniform_share: float = 1.0,
) -> list[str]:
    """What the reviews there are allow, and how many more each promise takes, in words.

    Args:
        reviews: one row a reviewed, randomly drawn answer: task (or None), good (bool).
        target_precision: promised share of good answers above the threshold.
        delta: allowed chance that the promise is broken.
        per_day: reviews a day at present.
        uniform_share: share of the reviews that is left after thinning to a uniform sample.

    Returns:
        One line for all tasks, then one for each.
    """
    promise = {"target_precision": target_precision, "delta": delta, "uniform_share": uniform_share}
    lines = [_plan("all tasks", reviews["good"].to_numpy(bool), per_day, **promise)]
    total = max(len(reviews), 1)
    for task, rows in reviews.groupby(reviews["task"].fillna("no task")):
        good = rows["good"].to_numpy(bool)
        lines.append(_plan(str(task), good, per_day * len(good) / total, **promise))
    return lines


def _plan(name: str, good: NDArray[np.bool_], per_day: float, **promise: float) -> str:
    n, bad = len(good), int((~good).sum())
    rate = bad / n if n else 0.0
    # Wilson's centre: no error among few answers does not mean that there are none.
    likely = (bad + Z**2 / 2) / (n + Z**2)
    for_mean = max(0, math.ceil(Z**2 * likely * (1 - likely) / HALF_WIDTH**2) - n)
    # Of the better half, which a threshold keeps first: half as many are bad if the score is fair.
    for_promise = reviews_needed(n, error_rate=rate / 2, **promise)
    wants = [
        _more("mean quality to within 5 points", for_mean, per_day),
        _more("a score of each answer", max(0, MIN_LABELS - n), per_day),
    ]
    what = f"a threshold with {promise['target_precision']:.0%} good answers above it"
    if for_promise is None:
        wants.append(f"{what}: no number of reviews gives it, too many answers are bad")
    else:
        wants.append(_more(what, for_promise, per_day))
    return f"{name}: {n} reviews, {rate:.1%} bad; " + "; ".join(wants)


def _more(what: str, number: int, per_day: float) -> str:
    if number == 0:
        return f"{what}: enough"
    days = f"about {math.ceil(number / per_day)} days" if per_day > 0 else "nobody reviews now"
    return f"{what}: {number} more ({days})"
