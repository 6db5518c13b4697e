"""What a policy would do, estimated from requests that other policies decided.

Not here: where the requests come from (``routing/logged_requests.py``).

SNIPS (Swaminathan & Joachims 2015) and the doubly robust estimator (Dudik et al. 2011) with a
cross-fitted outcome model; intervals from influence values, summed within a cluster.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.stats import norm

from loop_pipeline.stats.binomial import clopper_pearson

MIN_EFFECTIVE = 200
MAX_WEIGHT = 50.0
FOLDS = 5
RIDGE = 1.0
# Observed rows per feature below which the outcome model is the mean of the row's group.
MIN_ROWS_PER_FEATURE = 10

Floats = NDArray[np.float64]


class Logged(NamedTuple):
    """One outcome over the logged requests, each of shape (n,).

    ``reward`` is NaN where it was not observed; ``propensity`` is the chance that it would be,
    given everything logged before the coin; ``predicted`` is an outcome model's guess, made
    without the row itself.
    """

    reward: Floats
    propensity: Floats
    predicted: Floats


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


def effective_size(weight: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 if every weight is 0."""
    total = float(weight.sum())
    return total**2 / float((weight**2).sum()) if total > 0 else 0.0


def estimate(
    reward: Floats,
    propensity: Floats,
    predicted: Floats,
    *,
    within: Logged | None = None,
    clusters: NDArray[Any] | None = None,
    level: float = 0.95,
) -> Estimate:
    """Mean reward under the new policy.

    Args:
        reward: shape (n,), of the arm that the new policy chooses; NaN where it was not observed.
        propensity: shape (n,), chance in (0, 1] that it would be observed.
        predicted: shape (n,), outcome model, cross-fitted. A bad one widens the DR interval and
            biases nothing while the propensities are right.
        within: of a 0/1 outcome: the mean is then taken over the requests where it is 1. It has to
            be known wherever the reward is, and the reward 0 wherever it is 0.
        clusters: shape (n,), rows that belong together (one request asked again).
        level: of the intervals.

    Raises:
        ValueError: nothing was observed, or a propensity is no probability.
    """
    if len(reward) == 0 or not np.isfinite(reward).any():
        raise ValueError("no reward was observed: nothing can be said about the policy")
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise ValueError("a propensity is not in (0, 1]")
    base = within or Logged(np.ones_like(reward), np.ones_like(reward), np.ones_like(reward))
    seen = np.isfinite(reward)
    weight = np.where(seen, 1 / propensity, 0.0)
    gained, inside = np.where(seen, reward, 0.0), np.where(seen, base.reward, 0.0)
    total = float(weight @ inside)
    if total == 0:
        raise ValueError("no observed request lies within what the mean is taken over")
    snips = float(weight @ gained / total)
    pull = weight * (gained - snips * inside) * len(reward) / total
    top, bottom = _corrected(Logged(reward, propensity, predicted)), _corrected(base)
    dr = float(top.mean() / bottom.mean())
    pull_dr = (top - dr * bottom) / bottom.mean()
    own = weight * inside
    effective = effective_size(own)
    spreads = [
        _interval(value, influence, effective, gained[own > 0], clusters, level)
        for value, influence in ((snips, pull), (dr, pull_dr))
    ]
    return Estimate(
        snips=snips,
        snips_low=spreads[0][0],
        snips_high=spreads[0][1],
        dr=dr,
        dr_low=spreads[1][0],
        dr_high=spreads[1][1],
        n=len(reward),
        observed=int((own > 0).sum()),
        effective=effective,
        max_weight=float(own.max()),
    )


def _corrected(part: Logged) -> Floats:
    """The model's guess, corrected by what was observed: its mean is the DR estimate."""
    seen = np.isfinite(part.reward)
    rest = np.where(seen, part.reward, part.predicted) - part.predicted
    return part.predicted + rest / part.propensity


def _interval(
    value: float,
    influence: Floats,
    effective: float,
    rewards: Floats,
    clusters: NDArray[Any] | None,
    level: float,
) -> tuple[float, float]:
    sums = influence
    if clusters is not None:
        _, which = np.unique(clusters.astype(str), return_inverse=True)
        sums = np.bincount(which, weights=influence)
    half = float(norm.ppf(0.5 + level / 2) * np.sqrt((sums**2).sum()) / len(influence))
    if np.isin(rewards, (0.0, 1.0)).all() and np.ptp(rewards) == 0:
        # Nothing varies, so a normal interval would be empty: the exact one of so many rows.
        n = max(int(effective), 1)
        low, high = clopper_pearson(round(n * float(rewards[0])), n, level)
        return min(low, value), max(high, value)
    return value - half, value + half


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
    _, which = np.unique(clusters.astype(str), return_inverse=True)
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
    _, which = np.unique(groups.astype(str), return_inverse=True)
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
