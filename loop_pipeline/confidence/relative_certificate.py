"""The promise of a group relative to its ceiling, an offer that is off by default.

The student agrees with the frontier's answer at least as often as the frontier's own next answer
does, less a margin.

Not here: the promise of a fixed share (``certificate.py``), and the test itself
(``stats/paired_margin.py``).

It rests on rows for which the frontier was asked twice, and on one row of each unit, so that rows
count as what they are. Thresholds are walked from strict to loose in an order that the scores alone
give, and the walk ends at the first that fails, so that trying many costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.confidence.certificate import Certificate
from loop_pipeline.stats.binomial import clopper_pearson, lower_bound
from loop_pipeline.stats.fixed_sequence import STEPS, Right, Scores
from loop_pipeline.stats.paired_margin import least_rows, within_margin


def rows_needed(margin: float, delta: float) -> int:
    """The least units, asked twice and without a difference, that prove the margin."""
    return _needed(round(margin, 12), delta)


@lru_cache(maxsize=256)
def _needed(margin: float, delta: float) -> int:
    return least_rows(margin, delta)


def certify_relative(
    conf: Scores,
    agree: Right,
    itself: Right,
    units: Sequence[str],
    *,
    margin: float,
    delta: float,
) -> Certificate:
    """The loosest threshold from which on the student keeps the margin, except by ``delta``.

    Args:
        conf: shape (n,), higher is surer; NaN for an answer the router would never serve.
        agree: shape (n,), whether the student's answer agrees with the frontier's.
        itself: shape (n,), whether the frontier's second answer agrees with its first.
        units: which unit each row belongs to; the first row of each counts.
        margin: how much less often than the frontier itself the student may agree.
        delta: allowed chance that the promise is broken.

    Returns:
        With figures of the units' rows; ``least`` is the ceiling's lower end among accepted rows,
        less the margin. ``share`` is what was spent: nothing where there are too few to test.
    """
    _, one = np.unique(np.asarray(units, dtype=object).astype(str), return_index=True)
    one.sort()
    conf, right, own = conf[one], agree[one].astype(bool), itself[one].astype(bool)
    finite = np.isfinite(conf)
    score, right, own = conf[finite], right[finite], own[finite]
    threshold, reason = _walk(score, right, own, margin=margin, delta=delta)
    kept = score >= threshold if threshold is not None else np.zeros(len(score), dtype=bool)
    count, good = int(kept.sum()), int((kept & right).sum())
    least = None
    if count:
        least = max(0.0, clopper_pearson(int((kept & own).sum()), count)[0] - margin)
    tested = len(score) >= rows_needed(margin, delta) and np.ptp(score) > 0
    return Certificate(
        threshold=threshold,
        n=len(conf),
        accepted=count,
        errors=count - good,
        coverage=count / max(len(conf), 1),
        agreement=good / count if count else None,
        agreement_lower=lower_bound(good, count, delta) if count else None,
        reason=reason,
        grid=[],
        share=delta if tested else 0.0,
        least=least,
    )


def _walk(
    score: Scores, right: Right, own: Right, *, margin: float, delta: float
) -> tuple[float | None, str]:
    n, need = len(score), rows_needed(margin, delta)
    if n < need:
        return None, (
            f"has {n} calibration units that the frontier answered twice, needs at least {need}: "
            f"{need - n} missing (LOOP_FRONTIER_AGAIN_RATE asks more)"
        )
    if np.ptp(score) == 0:
        return None, "all scores are equal, so they cannot tell good answers from bad ones"
    ordered: NDArray[np.float64] = np.sort(score)[::-1]
    threshold = None
    for k in np.unique(np.linspace(max(n // 2, need), n, STEPS).astype(int)):
        kept = score >= ordered[k - 1]
        student_only, frontier_only = (
            int((kept & ~right & own).sum()),
            int((kept & right & ~own).sum()),
        )
        if not within_margin(
            student_only, frontier_only, int(kept.sum()), margin=margin, delta=delta
        ):
            break
        threshold = float(ordered[k - 1])
    if threshold is not None:
        return threshold, "certified"
    surest = score >= ordered[max(n // 2, need) - 1]
    return None, (
        f"the margin is not proved: of its {int(surest.sum())} surest rows the student agrees in "
        f"{right[surest].mean():.3f}, the frontier with itself in {own[surest].mean():.3f}, not "
        f"enough to promise at most {100 * margin:.1f} points less"
    )
