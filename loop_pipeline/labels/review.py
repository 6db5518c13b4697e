"""Which answers people should look at: a coin with a logged probability, so nothing is biased."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import binom

from loop_pipeline.labels.threshold import smallest_certifiable
from loop_pipeline.traces.records import digest

DOUBT = 3.0
MIN_LABELS = 100
SUSPICIOUS = ("modified", "rejected", "regenerated", "thumb_down")


def coin(seed: int | str, prompt_id: str) -> float:
    """A number in [0, 1) that is always the same for a seed and a prompt id."""
    return int(digest("coin", str(seed), prompt_id)[:13], 16) / 16**13


def review_probability(signals: pd.DataFrame, *, base_rate: float) -> pd.Series:
    """Chance of being drawn: the base rate, three times that for flagged or contested answers.

    It can only rise when feedback comes late and the coin stays the same, so the chance that a
    trace has been drawn by now is its probability by now, whenever it was drawn.
    """
    doubtful = (signals["hallucination"] >= 0.5) & (signals["cannot_tell"] == 0)
    doubtful |= signals[list(SUSPICIOUS)].any(axis=1) | (signals["contract_broken"] > 0)
    doubtful |= (signals["rating_missing"] == 0) & (signals["rating"] < 0.5)
    return (base_rate * (1 + (DOUBT - 1) * doubtful)).clip(upper=1.0).rename("p_review")


def draw_reviews(
    traces: pd.DataFrame,
    signals: pd.DataFrame,
    *,
    seed: int,
    base_rate: float,
    already: set[str],
) -> pd.DataFrame:
    """Traces for the review queue. The same traces give the same draw, in any order.

    Args:
        traces: rows with ``prompt_id``.
        signals: as ``labels.signals.signals`` gives them, with a row for each trace.
        seed: of the coin.
        base_rate: chance of an answer nobody has doubts about.
        already: prompt ids that are in the queue; they are not drawn again.

    Returns:
        prompt_id and p_review of the drawn rows.
    """
    chance = review_probability(signals, base_rate=base_rate).loc[traces["prompt_id"]]
    points = np.array([coin(seed, str(prompt_id)) for prompt_id in chance.index])
    drawn = chance[(points < chance) & ~chance.index.isin(list(already))]
    return drawn.rename_axis("prompt_id").reset_index()


def uniform_sample(p_review: pd.Series, *, seed: int | str = "thin") -> pd.Series:
    """Whether each reviewed row belongs to a uniform sample: kept with chance p_min / p.

    Args:
        p_review: indexed by prompt_id, all above 0.
        seed: of the coin, another one than the draw's.
    """
    keep = p_review.min() / p_review
    points = np.array([coin(seed, str(prompt_id)) for prompt_id in p_review.index])
    return pd.Series(points < keep.to_numpy(), index=p_review.index)


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
    while binom.cdf(math.ceil(error_rate * top), top, alpha) > delta:
        top += max(1, top // 50)
    rows = least if top == least else 2 * top
    needed = max(MIN_LABELS, math.ceil(rows / uniform_share))
    return max(0, needed - reviews)
