"""Fixed-sequence testing: a threshold that keeps its promise on new data, or none at all.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052). Bounds of a single share are in
``binomial``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.stats.binomial import lower_bound, p_at_most, smallest_certifiable

Scores = NDArray[np.float64]
Right = NDArray[np.bool_]

# Thresholds that a walk from strict to loose tries.
STEPS = 60


def bounded_threshold(
    score: Scores,
    good: Right,
    *,
    alpha: float,
    delta: float,
    steps: int = STEPS,
) -> float | None:
    """Loosest threshold with an error rate of at most ``alpha``, except with chance ``delta``.

    Learn-then-Test with fixed-sequence testing and the exact binomial p-value (Angelopoulos et al.
    2021). Thresholds are tried from strict to loose; their order comes from the scores and never
    from the labels, and the walk ends at the first one that fails.

    Args:
        score: shape (n,), higher is surer.
        good: shape (n,), whether the row kept the promise.
        alpha: largest error rate allowed among the accepted rows.
        delta: allowed chance, over draws of these rows, that the promise is broken.
        steps: number of thresholds tried.

    Returns:
        Accept rows with ``score >= threshold``; None if nothing can be promised.
    """
    n, start = len(score), smallest_certifiable(alpha, delta)
    if n < start or not np.isfinite(score).all():
        return None
    ordered = np.sort(score)[::-1]
    threshold = None
    for k in np.unique(np.linspace(max(n // 2, start), n, steps).astype(int)):
        accepted = score >= ordered[k - 1]
        errors = int((accepted & ~good).sum())
        if p_at_most(errors, int(accepted.sum()), alpha) > delta:
            break
        threshold = float(ordered[k - 1])
    return threshold


def all_or_threshold(score: Scores, good: Right, *, alpha: float, delta: float) -> float | None:
    """Everything if that keeps the promise, else the loosest threshold of the walk that does.

    Each of the two has half of ``delta`` (Bonferroni), so together they break the promise with
    chance at most ``delta``. Where nearly all rows are good a score has little left to tell apart,
    and the strict end of a walk, with half of the rows, would fail by bad luck.

    Args:
        score: shape (n,), higher is surer.
        good: shape (n,).
        alpha: largest error rate allowed among the accepted rows.
        delta: allowed chance that the promise is broken.

    Returns:
        As ``bounded_threshold``.
    """
    usable = len(score) > 0 and bool(np.isfinite(score).all())
    if usable and p_at_most(int((~good).sum()), len(good), alpha) <= delta / 2:
        return float(score.min())
    return bounded_threshold(score, good, alpha=alpha, delta=delta / 2)


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
