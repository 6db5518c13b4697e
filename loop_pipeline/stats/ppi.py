"""The share of good answers among all, from few reviews and many scores, with an interval.

Not here: where reviews and scores come from (``labels``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.stats import norm

from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.sampling import uniform_sample

MAX_WEIGHT = 10.0
# Fewer verdicts, or fewer of the rarer kind, have no normal limit.
NORMAL_FROM = 50
RARER_FROM = 5


class MeanQuality(BaseModel):
    """Share of good answers with its 95% interval, and how it was come by."""

    mean: float
    low: float
    high: float
    labels: int
    effective: float
    """Labels that would tell as much if all were drawn with the same chance."""
    method: str


def ppi_mean(
    verdicts: pd.Series, scores: pd.Series | None, p_review: pd.Series | None
) -> MeanQuality | None:
    """Share of good answers among all scored ones (PPI++, power-tuned).

    The verdicts are a subset of the scored rows, so this is the difference estimator with its
    variance-minimising weight (Angelopoulos et al. 2023, arXiv 2311.01453), self-normalised by
    1 / p_review. Its interval needs a normal limit: below 50 verdicts or 5 of the rarer kind it is
    the exact binomial one on a uniform sample of the verdicts instead.

    Args:
        verdicts: whether an answer is good, by prompt_id.
        scores: P(good) of all answers, by prompt_id; those of reviewed rows out of fold.
        p_review: chance of each review; None: all the same.
    """
    good = verdicts.to_numpy(bool)
    chance = pd.Series(1.0, index=verdicts.index) if p_review is None else p_review
    chance = chance.loc[verdicts.index]
    if not len(good):
        return None
    rarer = min(good.sum(), (~good).sum())
    if scores is None or len(good) < NORMAL_FROM or rarer < RARER_FROM:
        return _exact_mean(good[uniform_sample(chance).to_numpy()])
    f_all, f = scores.to_numpy(float), scores.loc[verdicts.index].to_numpy(float)
    weight = review_weights(chance)
    weight = weight / weight.sum()
    cov = np.cov(np.stack([good.astype(float), f]), aweights=weight)
    tuning = float(np.clip(cov[0, 1] / cov[1, 1], 0, 1)) if cov[1, 1] > 0 else 0.0
    rest = good - tuning * f
    mean = tuning * f_all.mean() + weight @ rest
    noise = weight**2 @ (rest - weight @ rest) ** 2 * len(f) / (len(f) - 1)
    shared = 2 * tuning * (cov[0, 1] - tuning * cov[1, 1])
    spread = np.sqrt(noise + max(0.0, tuning**2 * f_all.var() + shared) / len(f_all))
    low, high = mean + norm.ppf([0.025, 0.975]) * spread
    return MeanQuality(
        mean=float(np.clip(mean, 0, 1)),
        low=float(max(0.0, low)),
        high=float(min(1.0, high)),
        labels=len(good),
        effective=float(1 / (weight**2).sum()),
        method="PPI++",
    )


def review_weights(chance: pd.Series) -> NDArray[np.float64]:
    """Inverse review probability, clipped: few rows may not decide everything."""
    return np.minimum(chance.max() / chance.to_numpy(float), MAX_WEIGHT)


def _exact_mean(good: NDArray[np.bool_]) -> MeanQuality:
    low, high = clopper_pearson(int(good.sum()), len(good))
    return MeanQuality(
        mean=float(good.mean()),
        low=low,
        high=high,
        labels=len(good),
        effective=len(good),
        method="exact binomial",
    )
