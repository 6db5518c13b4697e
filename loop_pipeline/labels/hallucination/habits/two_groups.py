"""Whether numbers fall into two groups or are one continuum: a mixture of two normals, by EM.

Not here: what the numbers are (``wording_habit.py``). scikit-learn's mixture would do the same;
this one also runs where the gateway must not import it, and its start is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The lower group starts as this share of the numbers; the best of them counts.
STARTS = (0.25, 0.5, 0.75)
STEPS = 100
STILL = 1e-4
TINY = 1e-300


class Groups(NamedTuple):
    """Two groups, the lower one first."""

    means: tuple[float, float]
    spreads: tuple[float, float]
    shares: tuple[float, float]
    gain: float
    """BIC that two groups gain over one, a number."""

    @property
    def apart(self) -> float:
        """Ashman's D: distance of the means in their mean spread. Above 2 there is a valley."""
        mean_spread = float(np.sqrt(np.mean(np.square(self.spreads))))
        return (self.means[1] - self.means[0]) / mean_spread


def two_groups(numbers: Floats, least_spread: float = 0.2) -> Groups:
    """Fit two normals; equal numbers, equal result, in any order.

    Args:
        numbers: shape (n,), n >= 4.
        least_spread: of a group, so that equal numbers are no group of their own.
    """
    x = np.sort(numbers)
    found = [_fit(x, int(len(x) * start), least_spread) for start in STARTS]
    likely, means, spreads, shares = max(found, key=lambda fit: fit[0])
    one = np.log(_density(x, x.mean(keepdims=True), np.maximum([x.std()], least_spread))).sum()
    gain = (2 * (likely - one) - 3 * np.log(len(x))) / len(x)
    low, high = np.argsort(means, kind="stable")
    return Groups(
        (float(means[low]), float(means[high])),
        (float(spreads[low]), float(spreads[high])),
        (float(shares[low]), float(shares[high])),
        float(gain),
    )


def _fit(x: Floats, cut: int, least: float) -> tuple[float, Floats, Floats, Floats]:
    """Log-likelihood, means, spreads and shares, from a start at a place in the order."""
    parts = (x[: max(cut, 1)], x[max(cut, 1) :])
    means = np.array([part.mean() for part in parts])
    spreads = np.maximum([part.std() for part in parts], least)
    shares = np.array([len(part) / len(x) for part in parts])
    for _ in range(STEPS):
        weighed = shares * _density(x, means, spreads)
        belongs = weighed / weighed.sum(axis=1, keepdims=True)
        sizes = np.maximum(belongs.sum(axis=0), 1e-9)
        means = (belongs * x[:, None]).sum(axis=0) / sizes
        square = (belongs * np.square(x[:, None] - means)).sum(axis=0) / sizes
        spreads = np.maximum(np.sqrt(square), least)
        before, shares = shares, sizes / len(x)
        if np.abs(shares - before).max() < STILL:
            break
    likely = float(np.log((shares * _density(x, means, spreads)).sum(axis=1)).sum())
    return likely, means, spreads, shares


def _density(x: Floats, means: Floats, spreads: Floats) -> Floats:
    """Shape (n, groups)."""
    z = (x[:, None] - means) / spreads
    return np.exp(-0.5 * np.square(z)) / (spreads * np.sqrt(2 * np.pi)) + TINY
