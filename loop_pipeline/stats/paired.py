"""How sure a difference is between two models that answered the same requests.

Not here: what follows from it (``evaluation/gate.py``).

Rows of one unit (a conversation, near-duplicates) are often won or lost together, so that they are
no independent rows. Two tests count by units: `worse_by_units` lets each unit as a whole take a
sign, which is exact, and McNemar's test where every unit has one row; `bound_by_units` is Tango's
bound on as many rows as the units are worth, which is cluster-robust.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import binom, norm, t

DRAWS = 2000
# Fewer units of even size than this have no normal limit: one unit alone could decide.
FEWEST_UNITS = 30


class Difference(NamedTuple):
    """A difference of two means with its interval."""

    difference: float
    low: float
    high: float
    n: int


def paired_bootstrap(
    new: ArrayLike,
    old: ArrayLike,
    clusters: ArrayLike,
    *,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Mean of ``new - old`` with its bias-corrected and accelerated interval (BCa, Efron 1987).

    Whole clusters are drawn, so that rows that belong together count once. Clusters of the same
    size and sum are interchangeable: their counts are drawn as one multinomial, which is the same
    bootstrap, and fast where rows are right or wrong.

    Args:
        new: shape (n,), a figure of each row under the one model.
        old: shape (n,), the same rows under the other.
        clusters: shape (n,), what each row belongs to.
        draws: bootstrap samples.
        level: of the interval.
        seed: of the draws.

    Returns:
        The interval. If no cluster differs at all a bootstrap sees no spread; it is then the exact
        bound on the share of clusters that could have.

    Raises:
        ValueError: no row.
    """
    codes, _ = pd.factorize(np.asarray(clusters))
    gain = np.asarray(new, float) - np.asarray(old, float)
    if not len(gain):
        raise ValueError("no row was answered by both models: nothing to compare")
    sums, sizes = np.bincount(codes, weights=gain), np.bincount(codes)
    count, difference = len(sums), float(sums.sum() / sizes.sum())
    if not sums.any():
        edge = 1 - ((1 - level) / 2) ** (1 / count)
        return Difference(difference, -edge, edge, len(gain))
    kinds, times = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(count, times / count, size=draws)
    means = (drawn @ kinds[0]) / (drawn @ kinds[1])
    low, high = np.quantile(means, _bca(means, difference, kinds, times, level))
    return Difference(difference, float(low), float(high), len(gain))


def _bca(
    means: np.ndarray, difference: float, kinds: np.ndarray, times: np.ndarray, level: float
) -> np.ndarray:
    """The two quantiles of the draws that BCa reads the interval from."""
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    below = np.mean(means < difference) + np.mean(means == difference) / 2
    if not 0 < below < 1:
        return tails
    total, size = kinds[0] @ times, kinds[1] @ times
    if np.any(size == kinds[1]):  # a single cluster cannot be left out
        return tails
    left_out = (total - kinds[0]) / (size - kinds[1])
    away = np.average(left_out, weights=times) - left_out
    spread = (times @ away**2) ** 1.5
    acceleration = (times @ away**3) / (6 * spread) if spread > 0 else 0.0
    bias = norm.ppf(below)
    z = bias + norm.ppf(tails)
    return norm.cdf(bias + z / (1 - acceleration * z))


def mcnemar_worse(gained: int, lost: int) -> float:
    """Exact one-sided p-value that the candidate is not worse.

    Args:
        gained: rows only the candidate gets right.
        lost: rows only the other one gets right.
    """
    return float(binom.sf(lost - 1, gained + lost, 0.5)) if gained + lost else 1.0


def lower_bound(gained: float, lost: float, n: float, alpha: float) -> float:
    """One-sided ``1 - alpha`` lower bound of the paired difference, by Tango's score test (1998).

    It holds its level also when few rows are discordant, where bootstrap and Wald bounds collapse.

    Args:
        gained: rows only the candidate gets right.
        lost: rows only the other one gets right.
        n: rows both answered.
        alpha: chance that the true difference is below the bound.
    """
    z = float(norm.ppf(1 - alpha))

    def beyond(difference: float) -> float:
        return _tango(gained, lost, n, difference) - z

    edge = 1e-9
    if beyond(-1 + edge) <= 0:
        return -1.0
    return float(brentq(beyond, -1 + edge, (gained - lost) / n))  # pyright: ignore[reportArgumentType]


def _tango(gained: float, lost: float, n: float, difference: float) -> float:
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    rare = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * rare + difference * (1 - difference))
    above = gained - lost - n * difference
    return above / math.sqrt(variance) if variance > 0 else (math.inf if above > 0 else 0.0)


class RowsByUnit(NamedTuple):
    """Gains of the rows (1, 0 or -1), and what they are worth."""

    gained: int
    lost: int
    sums: np.ndarray
    """Of each unit."""
    sizes: np.ndarray
    """Rows of each unit."""

    @classmethod
    def of(cls, gain: ArrayLike, units: ArrayLike) -> Self:
        """Of each row's gain, shape (n,), and what it belongs to, shape (n,)."""
        codes, _ = pd.factorize(np.asarray(units))
        values = np.asarray(gain, float)
        sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
        return cls(int((values > 0).sum()), int((values < 0).sum()), sums, sizes)

    @property
    def even_units(self) -> float:
        """Units of the same size that would weigh as evenly (Kish)."""
        n = float(self.sizes.sum())
        return n**2 / float((self.sizes.astype(float) ** 2).sum()) if n else 0.0

    def design_effect(self, alpha: float) -> float:
        """How much larger the variance of the mean is than that of independent rows; at least 1.

        It is estimated from the units that hold a difference. Where they are few it is raised as a
        t quantile at ``alpha`` is above a normal one.
        """
        n, mean = float(self.sizes.sum()), float(self.sums.sum() / self.sizes.sum())
        alone = self.gained + self.lost - n * mean**2
        if alone <= 0 or self.sizes.max() == 1:
            return 1.0
        telling = max(int((self.sums != 0).sum()), 2)
        raised = float(t.ppf(alpha, telling - 1) / norm.ppf(alpha)) ** 2
        together = float(((self.sums - self.sizes * mean) ** 2).sum())
        return max(1.0, together / alone * raised)


def bound_by_units(rows: RowsByUnit, alpha: float) -> float:
    """`lower_bound` of rows that belong together in units: on rows over their design effect.

    It is -1, which says nothing, where a few units hold most of the rows.
    """
    if rows.sizes.max() > 1 and rows.even_units < FEWEST_UNITS:
        return -1.0
    by = rows.design_effect(alpha)
    return lower_bound(rows.gained / by, rows.lost / by, float(rows.sizes.sum()) / by, alpha)


def worse_by_units(rows: RowsByUnit) -> float:
    """One-sided p-value that the candidate is not worse, exact if units are independent.

    Were the two the same, which of them gave which answers to a unit would not matter: the sum of
    each unit takes either sign by a fair coin. With a row a unit this is McNemar's exact test.
    """
    lead = round(float(rows.sums.sum()))
    sums = np.abs(rows.sums[rows.sums != 0]).round().astype(int)
    chances = np.ones(1)  # of the sums from -top to top
    for size, times in zip(*np.unique(sums, return_counts=True), strict=True):
        own = np.zeros(2 * size * times + 1)
        own[:: 2 * size] = binom.pmf(np.arange(times + 1), times, 0.5)
        chances = np.convolve(chances, own)
    top = len(chances) // 2
    return float(min(1.0, chances[: max(0, lead + top + 1)].sum()))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: compare them with the family's level. Shape (k,) to (k,)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return adjusted
