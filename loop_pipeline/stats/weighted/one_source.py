"""What one sample of logged requests says about a policy, and how much it is worth.

Not here: several samples together (``stats/off_policy.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.stats.units.design_effect import effective
from loop_pipeline.stats.weighted.score_interval import cells_of, chance_classes, reach

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


def of(part: Logged, mine: NDArray[np.bool_]) -> Logged:
    """The same of some of the requests."""
    return Logged(*(column[mine] for column in part))


def effective_size(weight: Floats) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2; 0 if every weight is 0."""
    total = float(weight.sum())
    return total**2 / float((weight**2).sum()) if total > 0 else 0.0


class Part(NamedTuple):
    """One source: its estimates with their variances, and what it is worth."""

    expected: float
    observed: int
    effective: float
    total: float
    largest: float
    snips: tuple[float, float, float]
    """Estimate, and how far its interval reaches below and above, squared."""
    dr: tuple[float, float, float]


def part_of(
    logged: Logged, base: Logged, unit: NDArray[np.int64], *, share: bool, level: float
) -> Part | None:
    """What one source says; None if nothing of it was observed.

    Args:
        logged: the reward.
        base: 1 where a request counts in the mean.
        unit: shape (n,), codes of what rows belong to.
        share: rewards are in [0, 1].
        level: of the intervals.
    """
    seen = np.isfinite(logged.reward)
    weight = np.where(seen, 1 / logged.propensity, 0.0)
    gained, inside = np.where(seen, logged.reward, 0.0), np.where(seen, base.reward, 0.0)
    own = weight * inside
    total = float(own.sum())
    if total == 0:
        return None
    used, classes = own > 0, chance_classes(logged.propensity)
    snips = float(weight @ gained / total)
    top, bottom = _corrected(logged), _corrected(base)
    dr = float(top.mean() / bottom.mean())

    def estimated(value: float, influence: Floats, guess: Floats) -> tuple[float, float, float]:
        variance = float((np.bincount(unit, influence) ** 2).sum()) / len(seen) ** 2
        cells = []
        if share:
            cells = cells_of(gained[used], guess[used], own[used], classes[used], unit[used])
        return value, *reach(variance, cells, level)

    guess = np.clip(logged.predicted, 0, 1)
    design = effective(1 - gained[used], unit[used]).design if share else 1.0
    rare = [float(logged.propensity[classes == name].sum()) for name in np.unique(classes)]
    return Part(
        expected=min(rare),
        observed=int(used.sum()),
        effective=effective_size(own) / float(design),
        total=total,
        largest=float(own.max()),
        snips=estimated(
            snips, weight * (gained - snips * inside) * len(seen) / total, np.zeros(len(seen))
        ),
        dr=estimated(dr, (top - dr * bottom) / bottom.mean(), guess),
    )


def _corrected(part: Logged) -> Floats:
    """The model's guess, corrected by what was observed: its mean is the DR estimate."""
    seen = np.isfinite(part.reward)
    rest = np.where(seen, part.reward, part.predicted) - part.predicted
    return part.predicted + rest / part.propensity
