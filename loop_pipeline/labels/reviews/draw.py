"""The chance with which an answer is reviewed, and the coin that decides it.

Not here: the queue in the store (``queue.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from loop_pipeline.labels.signals import number
from loop_pipeline.stats.binomial import p_at_most, smallest_certifiable
from loop_pipeline.stats.sampling import coin

DOUBT = 3.0
MIN_LABELS = 100
PLAIN = "base rate"


def review_probability(
    known: pd.DataFrame, *, base_rate: float, quartiles: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Chance of being drawn: the base rate, three times that where there is a reason to doubt.

    Args:
        known: indexed by prompt_id, columns of ``TraceSignalRow``; where there are any, also flag
            (of ``HallucinationFlagRow``), score (of ``QualityScoreRow``), task, and new_group
            (whether its task group is new). Null or missing: not known, no reason to doubt.
        base_rate: chance of an answer nobody has doubts about, above 0.
        quartiles: lower quartile of the scores by task; a score below it, or below 0.5, is low.

    Returns:
        Indexed by prompt_id: p_review in (0, 1], and the reason (all doubts there are).

    Raises:
        ValueError: the base rate is not in (0, 1].
    """
    if not 0 < base_rate <= 1:
        raise ValueError(f"a review rate of {base_rate} is not in (0, 1]: nothing could be learned")
    doubts = pd.DataFrame(_doubts(known, quartiles or {}), index=known.index).astype(bool)
    names = np.array(doubts.columns, dtype=object)
    reasons = ["; ".join(names[row]) or PLAIN for row in doubts.to_numpy()]
    chance = (base_rate * (1 + (DOUBT - 1) * doubts.any(axis=1))).clip(upper=1.0)
    return pd.DataFrame({"p_review": chance, "reason": reasons}, index=known.index)


def _doubts(known: pd.DataFrame, quartiles: Mapping[str, float]) -> dict[str, pd.Series]:
    """Reasons to look at an answer, and where each holds."""
    action = known["action"] if "action" in known else pd.Series(index=known.index, dtype=object)
    liked, thumb, judge = action == "accepted", number(known, "thumb"), number(known, "judge")
    refused = action.isin(["rejected", "modified"])
    flagged = number(known, "flag") == 1
    task = known["task"] if "task" in known else pd.Series(index=known.index, dtype=object)
    low = task.map(quartiles).astype(float).fillna(0.5).clip(lower=0.5)
    return {
        "low score": number(known, "score") < low,
        "accepted but flagged": liked & flagged,
        "flagged as hallucination": ~liked & flagged,
        "thumb against action": (liked & (thumb < 0.5)) | (refused & (thumb > 0.5)),
        "judge against action": (liked & (judge < 0.5)) | (refused & (judge >= 0.5)),
        "rejected": action == "rejected",
        "modified": action == "modified",
        "thumb down": thumb < 0.5,
        "low rating": number(known, "rating") < 0.5,
        "asked again": (number(known, "regenerated") == 1)
        | number(known, "reasked_minutes").notna(),
        "breaks its contract": number(known, "contract_valid") == 0,
        "new group": number(known, "new_group") == 1,
    }


def draw_reviews(
    known: pd.DataFrame,
    *,
    seed: int,
    base_rate: float,
    earlier: pd.DataFrame | None = None,
    quartiles: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Decide of every trace whether people look at it. The same traces give the same draw.

    The chance only rises when something new comes in, and the coin of a trace stays the same. So
    the chance that it has been drawn by now is its ``p_review`` by now, whenever it was drawn.

    Args:
        known: as for ``review_probability``.
        seed: of the coin.
        base_rate: chance of an answer nobody has doubts about.
        earlier: columns of ``ReviewItemRow`` of the traces that were in a draw before.
        quartiles: as for ``review_probability``.

    Returns:
        prompt_id, p_review, reason, status: ``skipped``, or ``open`` if it is drawn now; what was
        drawn before keeps its status.
    """
    names = ["p_review", "reason", "status"]
    rows = review_probability(known, base_rate=base_rate, quartiles=quartiles)
    before = pd.DataFrame(columns=names) if earlier is None else earlier.set_index("prompt_id")
    before = before[names].reindex(rows.index)
    stands = before["p_review"].astype(float) >= rows["p_review"]
    rows = rows.where(~stands, before[["p_review", "reason"]])
    points = np.array([coin(seed, str(prompt_id)) for prompt_id in rows.index])
    drawn = pd.Series(np.where(points < rows["p_review"], "open", "skipped"), index=rows.index)
    was_drawn = before["status"].notna() & (before["status"] != "skipped")
    rows["status"] = drawn.astype(object).where(~was_drawn, before["status"])
    return rows.astype({"p_review": float}).rename_axis("prompt_id").reset_index()


def reviews_needed(
    reviews: int,
    *,
    target_precision: float,
    delta: float,
    error_rate: float = 0.0,
    uniform_share: float = 1.0,
) -> int | None:
    """How many more reviews it takes before a threshold can be promised.

    Args:
        reviews: reviews there are.
        target_precision: promised share of good answers above the threshold.
        delta: allowed chance that the promise is broken.
        error_rate: expected share of bad answers among the best half by score.
        uniform_share: share of the reviews that is left after thinning to a uniform sample.

    Returns:
        0 if there are enough; None if no number is: the best half is worse than the target.
    """
    alpha = 1 - target_precision
    if error_rate >= alpha:
        return None
    # The first threshold tried keeps half of the rows, and it has to pass by itself.
    least = top = smallest_certifiable(alpha, delta)
    while p_at_most(math.ceil(error_rate * top), top, alpha) > delta:
        top += max(1, top // 50)
    rows = least if top == least else 2 * top
    needed = max(MIN_LABELS, math.ceil(rows / uniform_share))
    return max(0, needed - reviews)
