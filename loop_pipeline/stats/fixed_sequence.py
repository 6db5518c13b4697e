"""Fixed-sequence testing: a threshold that keeps its promise on new data, or none at all.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052). Bounds of a single share are in
``binomial``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.stats.binomial import lower_bound, smallest_certifiable
from loop_pipeline.stats.traffic_evidence import evidence

Scores = NDArray[np.float64]
Right = NDArray[np.bool_]
Codes = NDArray[np.int64]

# Thresholds that a walk from strict to loose tries.
STEPS = 60
# Share of the rows that the strictest of them accepts, unless other rows say where a bound passes.
START = 0.5


def bounded_threshold(
    score: Scores,
    good: Right,
    *,
    alpha: float,
    delta: float,
    unit: Codes | None = None,
    times: Scores | None = None,
    start: float = START,
    steps: int = STEPS,
) -> float | None:
    """Loosest threshold with an error rate of at most ``alpha``, except with chance ``delta``.

    Learn-then-Test with fixed-sequence testing and the exact binomial p-value (Angelopoulos et al.
    2021), on rows and errors as ``traffic_evidence`` counts them. Thresholds are tried from strict
    to loose; their order comes from the scores and never from the labels, and the walk ends at the
    first one that fails.

    Args:
        score: shape (n,), higher is surer.
        good: shape (n,), whether the row kept the promise.
        alpha: largest error rate allowed among the accepted rows.
        delta: allowed chance, over draws of these rows, that the promise is broken.
        unit: shape (n,), codes from 0 of rows that err together; None: each by itself.
        times: shape (n,), how often each request was asked; None: once.
        start: share of the rows that the strictest threshold accepts.
        steps: number of thresholds tried.

    Returns:
        Accept rows with ``score >= threshold``; None if nothing can be promised.
    """
    n, need = len(score), smallest_certifiable(alpha, delta)
    if n < need or not np.isfinite(score).all():
        return None
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    found = evidence(
        ~good[order].astype(bool),
        None if unit is None else unit[order],
        None if times is None else times[order],
        alpha=alpha,
        delta=delta,
    )
    first = max(math.floor(n * start), need)
    tried = np.unique(np.linspace(first, n, steps).astype(int))
    # Equal scores are accepted together.
    ends = np.searchsorted(-ordered, -ordered[tried - 1], side="right") - 1
    passed = int(np.cumprod(found.p_values[ends] <= delta).sum())
    return float(ordered[ends[passed - 1]]) if passed else None


def all_or_threshold(
    score: Scores,
    good: Right,
    *,
    alpha: float,
    delta: float,
    unit: Codes | None = None,
    times: Scores | None = None,
) -> float | None:
    """Everything if that keeps the promise, else the loosest threshold of the walk that does.

    Each of the two has half of ``delta`` (Bonferroni), so together they break the promise with
    chance at most ``delta``. Where nearly all rows are good a score has little left to tell apart,
    and the strict end of a walk, with half of the rows, would fail by bad luck.

    Args:
        score: shape (n,), higher is surer.
        good: shape (n,).
        alpha: largest error rate allowed among the accepted rows.
        delta: allowed chance that the promise is broken.
        unit: as for ``bounded_threshold``.
        times: as for ``bounded_threshold``.

    Returns:
        As ``bounded_threshold``.
    """
    rows = {"unit": unit, "times": times}
    if len(score) > 0 and bool(np.isfinite(score).all()):
        whole = evidence(~good.astype(bool), **rows, alpha=alpha, delta=delta / 2)
        if whole.p_values[-1] <= delta / 2:
            return float(score.min())
    return bounded_threshold(score, good, alpha=alpha, delta=delta / 2, **rows)


def threshold_curve(
    score: Scores, good: Right, *, delta: float, steps: int = 40
) -> list[tuple[float, float, float, float]]:
    """What each threshold would keep: (threshold, kept share, precision, exact lower bound).

    Each bound holds by itself, with chance 1 - delta; only ``bounded_threshold`` may choose.
    """
    ordered = np.sort(score)[::-1]
    curve = []
    for threshold in np.unique(ordered[np.linspace(0, len(score) - 1, steps).astype(int)])[::-1]:
        accepted = score >= threshold
        n, right = int(accepted.sum()), int((accepted & good).sum())
        curve.append((float(threshold), n / len(score), right / n, lower_bound(right, n, delta)))
    return curve
