"""How many reviews are needed for which promise, in words.

Not here: the promises themselves (``labels/quality/thresholds.py``). Where a score was fitted, what
it says is quoted: a plan that reckons anew would contradict the thresholds in force.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.labels.quality.model import QualityModel
from loop_pipeline.labels.quality.stacking import POOLED
from loop_pipeline.labels.quality.thresholds import REST
from loop_pipeline.labels.reviews.draw import MIN_LABELS, reviews_needed
from loop_pipeline.stats.ppi import MeanQuality

HALF_WIDTH = 0.05
Z = 1.96  # of a 95% interval


def review_plan(
    reviews: pd.DataFrame,
    *,
    target_precision: float,
    delta: float,
    per_day: float,
    uniform_share: float = 1.0,
    model: QualityModel | None = None,
) -> list[str]:
    """What the reviews there are allow, and how many more each promise takes, in words.

    Args:
        reviews: one row a reviewed, randomly drawn answer: task (or None), good (bool).
        target_precision: promised share of good answers above the threshold.
        delta: allowed chance that the promise is broken.
        per_day: reviews a day at present.
        uniform_share: share of the reviews that is left after thinning to a uniform sample.
        model: the score in use; None: none was fitted yet.

    Returns:
        One line for all tasks, then one for each, then what the score in use was fitted to.
    """
    promise = {"target_precision": target_precision, "delta": delta, "uniform_share": uniform_share}
    named, total = reviews["task"].fillna("no task").astype(str), max(len(reviews), 1)
    lines = []
    for name in (POOLED, *sorted(named.unique())):
        good = reviews["good"].to_numpy(bool)[(named == name) | (name == POOLED)]
        rate = per_day * len(good) / total if name else per_day
        mean = model.quality.get(name) if model else None
        wants = [_mean(good, mean, rate), _score(len(good), model, rate)]
        if model is None or not model.usable:
            wants.append(_threshold(good, rate, **promise))
        else:
            wants.append(_promised(name, model))
        bad = float((~good).mean()) if len(good) else 0.0
        lines.append(
            f"{name or 'all tasks'}: {len(good)} reviews, {bad:.1%} bad; " + "; ".join(wants)
        )
    if model is not None and model.n_labels != len(reviews):
        lines.append(
            f"the score in use was fitted to {model.n_labels} reviews, now there are "
            f"{len(reviews)}: the job `refresh_quality` fits it again"
        )
    return lines


def _mean(good: NDArray[np.bool_], mean: MeanQuality | None, per_day: float) -> str:
    what, n = "mean quality to within 5 points", len(good)
    if mean is not None:
        # An interval narrows with the root of the reviews.
        half = (mean.high - mean.low) / 2
        more = max(0, math.ceil(n * (half / HALF_WIDTH) ** 2) - n)
        return (
            f"{_more(what, more, per_day)}, it is {mean.mean:.0%} [{mean.low:.0%}, {mean.high:.0%}]"
        )
    # Wilson's centre: no error among few answers does not mean that there are none.
    likely = (int((~good).sum()) + Z**2 / 2) / (n + Z**2)
    return _more(what, max(0, math.ceil(Z**2 * likely * (1 - likely) / HALF_WIDTH**2) - n), per_day)


def _score(n: int, model: QualityModel | None, per_day: float) -> str:
    what = "a score of each answer"
    if model is not None and model.usable:
        return f"{what}: in use"
    # As many reviews as it takes, and yet the last fit gave none: its reason is the true one.
    if model is not None and model.n_labels >= MIN_LABELS:
        return model.reason
    return _more(what, max(0, MIN_LABELS - n), per_day)


def _threshold(good: NDArray[np.bool_], per_day: float, **promise: float) -> str:
    # Of the better half, which a threshold keeps first: half as many are bad if the score is fair.
    rate = float((~good).mean()) / 2 if len(good) else 0.0
    needed = reviews_needed(len(good), error_rate=rate, **promise)
    what = f"a threshold with {promise['target_precision']:.0%} good answers above it"
    if needed is None:
        return f"{what}: no number of reviews gives it, too many answers are bad"
    return _more(what, needed, per_day)


def _promised(name: str, model: QualityModel) -> str:
    """What the score in use promises of a task, in its own words."""
    if name == POOLED:
        held = [promise for promise in model.promises.values() if promise.threshold is not None]
        return f"{len(held)} of {len(model.promises)} thresholds are in force"
    made = model.promises.get(name) or model.promises.get(REST)
    if made is None:
        return "no threshold: this task has had no reviews at the last fit"
    shared = f" (shared by {len(made.tasks)} tasks)" if len(made.tasks) > 1 else ""
    return (
        f"a threshold is in force{shared}: {made.reason}"
        if made.threshold is not None
        else made.reason
    )


def _more(what: str, number: int, per_day: float) -> str:
    if number == 0:
        return f"{what}: enough"
    days = f"about {math.ceil(number / per_day)} days" if per_day > 0 else "nobody reviews now"
    return f"{what}: {number} more ({days})"
