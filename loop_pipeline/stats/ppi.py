"""The share of good answers among all, from few reviews and many scores, with an interval.

Not here: where reviews and scores come from (``labels``).

Answers that were rarely drawn stand for many others. Their weight is never cut, which would bias
the mean wherever the chance of a review was once another one; instead answers of about the same
chance are a stratum, with an interval that holds where only few of them were reviewed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.sampling import uniform_sample
from loop_pipeline.stats.units.design_effect import effective
from loop_pipeline.stats.weighted.score_interval import cells_of, chance_classes, reach

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
    verdicts: pd.Series,
    scores: pd.Series | None,
    p_review: pd.Series | None,
    units: pd.Series | None = None,
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
        units: by prompt_id of at least all these rows, what each belongs together with (a
            conversation): such answers are good or bad together. None: each by itself.
    """
    good = verdicts.to_numpy(bool)
    chance = pd.Series(1.0, index=verdicts.index) if p_review is None else p_review
    chance = chance.loc[verdicts.index]
    if not len(good):
        return None
    named = pd.Series(verdicts.index, verdicts.index) if units is None else units
    rarer = min(good.sum(), (~good).sum())
    if scores is None or len(good) < NORMAL_FROM or rarer < RARER_FROM:
        kept = uniform_sample(chance).to_numpy()
        return _exact_mean(good[kept], named.loc[verdicts.index].to_numpy()[kept])
    everyone = scores.index.union(verdicts.index)
    codes = pd.Series(everyone if units is None else units.loc[everyone], everyone)
    unit = pd.Series(pd.factorize(codes)[0], everyone)
    return _tuned_mean(verdicts, scores, chance, unit)


def _tuned_mean(
    verdicts: pd.Series, scores: pd.Series, chance: pd.Series, unit: pd.Series
) -> MeanQuality:
    f_all, f = scores.to_numpy(float), scores.loc[verdicts.index].to_numpy(float)
    good, weight = verdicts.to_numpy(float), review_weights(chance)
    weight = weight / weight.sum()
    cov = np.cov(np.stack([good, f]), aweights=weight)
    tuning = float(np.clip(cov[0, 1] / cov[1, 1], 0, 1)) if cov[1, 1] > 0 else 0.0
    rest = good - tuning * f
    mean = tuning * f_all.mean() + weight @ rest
    mine = unit.loc[verdicts.index].to_numpy()
    # What each unit moves the mean by, through all scores and through its verdicts.
    moves = np.bincount(
        unit.loc[scores.index], tuning * (f_all - f_all.mean()) / len(f_all), len(unit)
    ) + np.bincount(mine, weight * (rest - weight @ rest), len(unit))
    seen = len(np.unique(mine))
    variance = float(moves @ moves) * seen / (seen - 1) if seen > 1 else 1.0
    classes = chance_classes(chance.to_numpy(float))
    cells = cells_of(good, tuning * f, weight, classes, mine)
    below, above = np.sqrt(reach(variance, cells))
    design = float(effective(1 - good, mine - mine.min()).design)
    return MeanQuality(
        mean=float(np.clip(mean, 0, 1)),
        low=float(max(0.0, mean - below)),
        high=float(min(1.0, mean + above)),
        labels=len(good),
        effective=float(1 / (weight**2).sum()) / design,
        method="PPI++",
    )


def review_weights(chance: pd.Series) -> NDArray[np.float64]:
    """Inverse review probability; that of the likeliest reviews is 1."""
    return chance.max() / chance.to_numpy(float)


def _exact_mean(good: NDArray[np.bool_], names: NDArray[np.object_]) -> MeanQuality:
    worth = effective(~good, pd.factorize(names)[0])
    rows = float(worth.rows)
    low, high = clopper_pearson(rows - float(worth.errors), rows)
    return MeanQuality(
        mean=float(good.mean()),
        low=low,
        high=high,
        labels=len(good),
        effective=rows,
        method="exact binomial",
    )
