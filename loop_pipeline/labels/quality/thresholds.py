"""A threshold per task above which answers may be learned from, or the reason for none.

Not here: thresholds for serving (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from loop_pipeline.labels.reviews.draw import reviews_needed
from loop_pipeline.stats.binomial import smallest_certifiable
from loop_pipeline.stats.fixed_sequence import all_or_threshold, threshold_curve
from loop_pipeline.stats.units.design_effect import effective

MIN_AUC = 0.6
REST = "all other tasks"


class Promise(BaseModel):
    """What is promised about the answers of some tasks that score at or above a threshold."""

    tasks: list[str]
    threshold: float | None
    curve: list[tuple[float, float, float, float]]
    """Threshold, kept share, precision, exact lower bound of the precision."""
    reviews: int
    uniform: int
    """Reviews left after thinning to a uniform sample: those the test counts."""
    reason: str
    kept: float | None = None
    """Share of the uniform sample at or above the threshold."""
    precision: float | None = None
    """Share of good answers among those."""


def promises(
    scores: pd.Series,
    good: pd.Series,
    tasks: pd.Series,
    uniform: pd.Series,
    *,
    target_precision: float,
    delta: float,
    auc: float,
    units: pd.Series | None = None,
) -> dict[str, Promise]:
    """Test a threshold for each task that has the reviews; the small tasks share one.

    Each promise is broken with chance at most ``delta``, over draws of the reviews: answers of one
    conversation are good or bad together, and count as what they are worth.

    Args:
        scores: out-of-fold P(good) of the reviewed rows, by prompt_id.
        good: verdicts on them.
        tasks: what ``labels.signals.tasks`` gives, for at least the reviewed rows.
        uniform: whether a row belongs to the uniform sample of the reviews.
        target_precision: promised share of good answers at or above the threshold.
        delta: allowed chance that the promise is broken.
        auc: of the scores; a score that tells nothing apart gets no threshold.
        units: conversation or the like of each row; None: each by itself.

    Returns:
        Promises by task; the small ones under ``REST`` together, if there are any.
    """
    own = tasks.loc[scores.index]
    unit = pd.Series(scores.index, scores.index) if units is None else units.loc[scores.index]
    counts = own[uniform].value_counts()
    # Half of the rows is the strictest threshold tried: it has to be able to pass by itself.
    least = 2 * smallest_certifiable(1 - target_precision, delta / 2)
    large = sorted(counts.index[counts >= least])
    parts: dict[str, pd.Series] = {str(task): own == task for task in large}
    if len(rest := sorted({*own} - {*large})) or not large:
        parts[REST] = own.isin(rest)
    found = {}
    for name, mask in parts.items():
        found[name] = _promise(
            [name] if name != REST else [str(task) for task in rest],
            scores[mask].to_numpy(float),
            good[mask].to_numpy(bool),
            uniform[mask].to_numpy(bool),
            pd.factorize(unit[mask])[0].astype(np.int64),
            target_precision=target_precision,
            delta=delta,
            auc=auc,
        )
    return found


def threshold_of(made: Mapping[str, Promise], tasks: pd.Series) -> pd.Series:
    """The threshold that holds for each row's task; NaN where nothing is promised."""
    rest = made[REST].threshold if REST in made else None
    by_task = {t: made[t].threshold if t in made else rest for t in tasks.unique()}
    return tasks.map(by_task).astype(float)


def _promise(
    tasks: list[str],
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    uniform: NDArray[np.bool_],
    unit: NDArray[np.int64],
    *,
    target_precision: float,
    delta: float,
    auc: float,
) -> Promise:
    kept_scores, kept, unit = scores[uniform], good[uniform], unit[uniform]
    threshold = share = precision = None
    if auc >= MIN_AUC:
        threshold = all_or_threshold(
            kept_scores, kept, alpha=1 - target_precision, delta=delta, unit=unit
        )
    if auc < MIN_AUC:
        reason = (
            f"no threshold: the signals hardly tell good from bad (AUC {auc:.2f}, {MIN_AUC} is the "
            "least); look at the signals before reviewing more"
        )
    elif threshold is None:
        reason = _missing(kept_scores, kept, len(good), target_precision, delta)
        reason += _together(kept, unit)
    else:
        above = kept_scores >= threshold
        share, precision = float(above.mean()), float(kept[above].mean())
        reason = (
            f"at least {target_precision:.0%} of unopposed answers scored {threshold:.3f} or more "
            f"are good, except with chance {delta:.0%} (for these tasks at this fit; not for all "
            f"tasks and fits together); {share:.0%} of them are ({len(kept)} "
            f"reviews in a uniform sample of {len(good)}{_together(kept, unit, ', ')})"
        )
    return Promise(
        tasks=tasks,
        threshold=threshold,
        curve=threshold_curve(kept_scores, kept, delta=delta) if len(kept) else [],
        reviews=len(good),
        uniform=len(kept),
        reason=reason,
        kept=share,
        precision=precision,
    )


def _together(good: NDArray[np.bool_], unit: NDArray[np.int64], before: str = "; they are ") -> str:
    """How many independent reviews these are worth, if that is fewer."""
    worth = float(effective(~good, unit).rows) if len(good) else 0.0
    return f"{before}worth {worth:.0f} independent ones" if worth < len(good) - 0.5 else ""


def _missing(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    reviews: int,
    target_precision: float,
    delta: float,
) -> str:
    best = good[np.argsort(-scores, kind="stable")][: max(1, len(good) // 2)]
    rate = float((~best).mean()) if len(best) else 0.0
    more = reviews_needed(
        reviews,
        target_precision=target_precision,
        delta=delta,
        error_rate=rate,
        uniform_share=len(good) / reviews if len(good) else 1.0,
    )
    need = (
        f"about {max(more, 1)} more reviews are needed"
        if more is not None
        else "more reviews alone will not help, better signals or answers will"
    )
    return (
        f"no threshold: {rate:.1%} of the better half are bad ({len(good)} reviews in a uniform "
        f"sample), {1 - target_precision:.0%} are allowed; {need}"
    )


def too_few(good: NDArray[np.bool_], *, target_precision: float, delta: float) -> str:
    """Why these reviews are too few for a score, and how many more it takes."""
    more = reviews_needed(len(good), target_precision=target_precision, delta=delta)
    if more:
        return (
            f"no score: {len(good)} reviews of randomly drawn answers, at least {more} more are "
            f"needed to promise {target_precision:.0%} good answers"
        )
    right = int(good.sum())
    kind, short = ("bad", len(good) - right) if right > len(good) / 2 else ("good", right)
    return (
        f"no score: {len(good)} reviews hold {short} {kind} answers; it takes 2 or more from "
        "different conversations to learn what sets them apart; people's verdicts are used as "
        "they are"
    )
