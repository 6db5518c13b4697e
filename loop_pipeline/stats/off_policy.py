"""What a policy would do, estimated from requests that other policies decided.

Not here: where the requests come from (``routing/evidence/logged_requests.py``).

SNIPS (Swaminathan & Joachims 2015) and the doubly robust estimator (Dudik et al. 2011) with a
cross-fitted outcome model; intervals from influence values, summed within a cluster, and corrected
where few of the rows that weigh most are errors (``weighted/score_interval.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from loop_pipeline.stats.weighted.one_source import Floats, Logged, Part, of, part_of
from loop_pipeline.stats.weighted.one_source import effective_size as effective_size

MIN_EFFECTIVE = 200
MAX_WEIGHT = 50.0
# A source of which so few rows of some chance are expected to be seen is not estimated apart.
FEWEST_SEEN = 5
FOLDS = 5
RIDGE = 1.0
# Observed rows per feature below which the outcome model is the mean of the row's group.
MIN_ROWS_PER_FEATURE = 10


class Estimate(BaseModel):
    """A mean under the new policy, two ways, with 95% intervals, and how much it rests on."""

    snips: float
    snips_low: float
    snips_high: float
    dr: float
    dr_low: float
    dr_high: float
    n: int
    observed: int
    effective: float
    max_weight: float


def estimate(
    reward: Floats,
    propensity: Floats,
    predicted: Floats,
    *,
    within: Logged | None = None,
    clusters: NDArray[Any] | None = None,
    sources: NDArray[Any] | None = None,
    level: float = 0.95,
    share: bool = True,
) -> Estimate:
    """Mean reward under the new policy.

    Args:
        reward: shape (n,), of the arm that the new policy chooses; NaN where it was not observed.
        propensity: shape (n,), chance in (0, 1] that it would be observed.
        predicted: shape (n,), outcome model, cross-fitted. A bad one widens the DR interval and
            biases nothing while the propensities are right.
        within: of a 0/1 outcome: the mean is then taken over the requests where it is 1. It has to
            be known wherever the reward is, and the reward 0 wherever it is 0.
        clusters: shape (n,), rows that belong together (a conversation, one request asked again).
        sources: shape (n,), samples of the same requests that were drawn in different ways, such as
            replayed and live ones. Each is estimated apart; together they weigh as many direct
            observations as each is worth, so that none of them makes the estimate worse. One whose
            rarest rows are hardly ever seen says nothing and is left out. None: one sample.
        level: of the intervals.
        share: rewards are in [0, 1]; else the intervals are plain normal ones.

    Raises:
        ValueError: nothing was observed, or a propensity is no probability.
    """
    if len(reward) == 0 or not np.isfinite(reward).any():
        raise ValueError("no reward was observed: nothing can be said about the policy")
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise ValueError("a propensity is not in (0, 1]")
    logged = Logged(reward, propensity, predicted)
    base = within or Logged(np.ones_like(reward), np.ones_like(reward), np.ones_like(reward))
    unit = np.arange(len(reward))
    if clusters is not None:
        unit = pd.factorize(clusters)[0]
    source = np.zeros(len(reward), int) if sources is None else sources
    parts = []
    for name in np.unique(source):
        own = source == name
        rows, counted = of(logged, own), of(base, own)
        if part := part_of(rows, counted, unit[own], share=share, level=level):
            parts.append(part)
    if not parts:
        raise ValueError("no observed request lies within what the mean is taken over")
    told = [part for part in parts if part.expected >= FEWEST_SEEN] or parts
    return _together(told, len(reward))


def _together(parts: list[Part], n: int) -> Estimate:
    """The sources, each with the weight of what it is worth."""
    worth = np.array([part.effective for part in parts])
    by = worth / worth.sum()
    pooled = sum(part.total for part in parts)
    found = {}
    for name in ("snips", "dr"):
        value, below, above = np.array([getattr(part, name) for part in parts]).T
        mean = float(by @ value)
        low, high = mean - np.sqrt(by**2 @ below), mean + np.sqrt(by**2 @ above)
        found |= {name: mean, f"{name}_low": float(low), f"{name}_high": float(high)}
    return Estimate(
        **found,
        n=n,
        observed=sum(part.observed for part in parts),
        effective=float(worth.sum()),
        max_weight=max(
            part.largest * weight * pooled / part.total
            for part, weight in zip(parts, by, strict=True)
        ),
    )


def outcome_model(
    reward: Floats,
    propensity: Floats,
    features: Floats,
    groups: NDArray[Any],
    *,
    clusters: NDArray[Any],
    seed: int = 0,
) -> Floats:
    """Guess of every row's reward by ridge regression on the other folds' observed rows.

    Where those are few it is the mean of the row's group, pulled towards the mean of all.

    Args:
        reward: shape (n,), NaN where not observed.
        propensity: shape (n,); observed rows weigh 1 / propensity.
        features: shape (n, k), known whatever the coin said, finite.
        groups: shape (n,), of the group means.
        clusters: shape (n,); a cluster is never split over folds.
        seed: of the folds.

    Returns:
        shape (n,), within the range of the observed rewards.
    """
    seen = np.isfinite(reward)
    if not seen.any():
        return np.zeros(len(reward))
    which = pd.factorize(clusters)[0]
    fold = np.random.default_rng(seed).permutation(which.max() + 1)[which] % FOLDS
    weight = np.where(seen, 1 / propensity, 0.0)
    filled = np.where(seen, reward, 0.0)
    scale = features.std(axis=0)
    x = (features - features.mean(axis=0)) / np.where(scale == 0, 1.0, scale)
    guess = np.zeros(len(reward))
    for part in range(FOLDS):
        held = fold == part
        fit = seen & ~held if (seen & ~held).any() else seen
        if fit.sum() >= MIN_ROWS_PER_FEATURE * (x.shape[1] + 1):
            guess[held] = _ridge(x[fit], filled[fit], weight[fit], x[held])
        else:
            guess[held] = _group_means(groups, filled, np.where(fit, weight, 0.0))[held]
    return np.clip(guess, filled[seen].min(), filled[seen].max())


def _ridge(x: Floats, y: Floats, weight: Floats, new: Floats) -> Floats:
    weight = weight / weight.mean()
    centre, level = np.average(x, axis=0, weights=weight), float(np.average(y, weights=weight))
    own = x - centre
    gram = (own * weight[:, None]).T @ own + RIDGE * np.eye(x.shape[1])
    return (new - centre) @ np.linalg.solve(gram, own.T @ (weight * (y - level))) + level


def _group_means(groups: NDArray[Any], y: Floats, weight: Floats, prior: float = 5.0) -> Floats:
    overall = float(weight @ y / weight.sum())
    which = pd.factorize(groups)[0]
    weight = weight / weight[weight > 0].mean()
    total, size = np.bincount(which, weights=weight * y), np.bincount(which, weights=weight)
    return ((total + prior * overall) / (size + prior))[which]


def refusal(effective: float, max_weight: float) -> str | None:
    """Why an estimate is too weak to let a policy go live on; None if it is not."""
    if effective < MIN_EFFECTIVE:
        return (
            f"the logged requests are worth {effective:.0f} direct observations of this policy, "
            f"at least {MIN_EFFECTIVE} are needed"
        )
    if max_weight > MAX_WEIGHT * (1 + 1e-9):
        return (
            f"one request would count for {max_weight:.0f}, at most {MAX_WEIGHT:.0f} is allowed: "
            "shadow more"
        )
    return None
