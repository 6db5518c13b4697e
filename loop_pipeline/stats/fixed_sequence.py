"""Fixed-sequence testing: a threshold that keeps its promise on new data, or none at all.

Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052). Bounds of a single share are in
``binomial``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from loop_pipeline.stats.binomial import lower_bound, smallest_certifiable
from loop_pipeline.stats.units.traffic_evidence import evidence

Scores = NDArray[np.float64]
Right = NDArray[np.bool_]
Codes = NDArray[np.int64]

# Thresholds that a walk from strict to loose tries.
STEPS = 60
# Share of the rows that the strictest of them accepts, unless other rows say where a bound passes.
START = 0.5
# Other shares that a walk may start with, and the rows that have to say so.
STARTS = (0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
LEAST_SEEN = 15
# Thresholds that running evidence is gathered for.
GRID = 30


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
    passed = int(np.cumprod(found.at(ends).p_values <= delta).sum())
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
        if whole.at([-1]).p_values[0] <= delta / 2:
            return float(score.min())
    return bounded_threshold(score, good, alpha=alpha, delta=delta / 2, **rows)


def anytime_threshold(
    score: Scores,
    good: Right,
    grid: Sequence[float],
    *,
    alpha: float,
    delta: float,
    unit: Codes | None = None,
    times: Scores | None = None,
) -> float | None:
    """Loosest of some thresholds that rows prove, however often one looks while more rows come.

    The chance that any look ever passes a threshold with an error rate above ``alpha`` is at most
    ``delta``, if the thresholds were fixed before the rows' verdicts were seen.

    Args:
        score: shape (n,), of all rows until now.
        good: shape (n,).
        grid: thresholds, the strictest first; the walk ends at the first that is not proved.
        alpha: largest error rate allowed among the accepted rows.
        delta: allowed chance that the promise is ever broken.
        unit: as for ``bounded_threshold``.
        times: as for ``bounded_threshold``.
    """
    if not len(score) or not len(grid):
        return None
    order = np.argsort(-score, kind="stable")
    found = evidence(
        ~good[order].astype(bool),
        None if unit is None else unit[order],
        None if times is None else times[order],
        alpha=alpha,
        delta=delta,
    )
    count = np.searchsorted(-score[order], -np.asarray(grid), side="right")
    held = (count > 0) & (found.at(np.maximum(count, 1) - 1).e_values >= 1 / delta)
    passed = int(np.cumprod(held).sum())
    return float(grid[passed - 1]) if passed else None


def thresholds_to_try(score: Scores, *, start: float = START, steps: int = GRID) -> list[float]:
    """Thresholds for ``anytime_threshold``, from the scores of some rows, the strictest first."""
    if not len(score):
        return []
    ordered = np.sort(score)[::-1]
    at = np.unique(
        np.linspace(max(math.floor(len(score) * start), 1), len(score), steps).astype(int)
    )
    return [float(value) for value in dict.fromkeys(ordered[at - 1])]


def first_share(score: Scores, good: Right, *, rows: int, alpha: float, delta: float) -> float:
    """Share of the rows at which a walk had better start, by other rows than it is tested on.

    Half, unless more than ``alpha`` of the surest half are wrong and a bound can be expected to
    pass with fewer: where only a few answers are sure, half of them prove nothing.

    Args:
        score: shape (v,), of rows that the walk does not see.
        good: shape (v,).
        rows: how many the walk will see.
        alpha: largest error rate allowed.
        delta: allowed chance that the promise is broken.
    """
    wrong = ~good[np.argsort(-score, kind="stable")].astype(bool)
    half = math.floor(START * len(score))
    if half < LEAST_SEEN or wrong[:half].mean() <= alpha:
        return START
    chance = {START: 1.0}
    for share in STARTS:
        seen, many = math.floor(share * len(score)), math.floor(share * rows)
        if seen >= LEAST_SEEN and many >= smallest_certifiable(alpha, delta):
            errors = many * float(wrong[:seen].mean())
            chance[share] = float(betainc(max(many - errors, 1e-9), errors + 1, 1 - alpha))
    best = min(chance, key=lambda share: chance[share])
    return best if chance[best] <= delta else START


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
