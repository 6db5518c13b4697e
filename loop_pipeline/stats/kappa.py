"""Cohen's kappa: how far two who say yes or no agree beyond what chance would give.

Not here: who they are (``labels/judges.py``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

DRAWS = 20_000
PRIOR = 0.5  # Jeffreys' for each of the four cells


class Kappa(BaseModel):
    """Agreement of two on the same rows; ``kappa`` is None where both always say the same thing."""

    kappa: float | None
    low: float
    high: float
    agreement: float
    first_says_yes: float
    second_says_yes: float
    rows: int
    effective: float
    """Independent rows, each drawn with the same chance, that would tell as much."""


def cohens_kappa(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64] | None = None,
    units: NDArray[np.intp] | None = None,
) -> Kappa | None:
    """Kappa with a 95% interval; None without rows.

    The interval is the posterior of the four cells of the table (Dirichlet, Jeffreys' prior) at the
    effective number of rows, so it is neither empty for two who never differ nor certain on ten
    rows. Effective: by the variance of kappa over units (its linearisation) against independent
    rows.

    Args:
        first: what the one says of each row, shape (n,).
        second: what the other says.
        weights: of the rows, such as the inverse of the chance of a review; None: all equal.
        units: number of the unit of each row, such as its conversation; None: each its own.
    """
    n = len(first)
    if n == 0:
        return None
    w = np.ones(n) if weights is None else weights.astype(float)
    w = w / w.sum()
    x, y = first.astype(float), second.astype(float)
    p, q, same = float(w @ x), float(w @ y), float(w @ (x == y))
    chance = p * q + (1 - p) * (1 - q)
    told = 1 - chance > 1e-12
    kappa = round((same - chance) / (1 - chance), 9) if told else None
    effective = _effective(x, y, w, np.arange(n) if units is None else units)
    cells = np.array([w @ (x * y), w @ (x * (1 - y)), w @ ((1 - x) * y), w @ ((1 - x) * (1 - y))])
    drawn = np.random.default_rng(0).dirichlet(effective * cells + PRIOR, DRAWS)
    yes, also = drawn[:, 0] + drawn[:, 1], drawn[:, 0] + drawn[:, 2]
    by_chance = yes * also + (1 - yes) * (1 - also)
    spread = (drawn[:, 0] + drawn[:, 3] - by_chance) / (1 - by_chance)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Kappa(
        kappa=kappa,
        low=min(float(low), 1.0 if kappa is None else kappa),
        high=max(float(high), -1.0 if kappa is None else kappa),
        agreement=round(same, 9),
        first_says_yes=round(p, 9),
        second_says_yes=round(q, 9),
        rows=n,
        effective=effective,
    )


def _effective(
    x: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], units: NDArray[np.intp]
) -> float:
    """Rows over the design effect of kappa; by the weights alone where no row moves it."""
    p, q, agrees = float(w @ x), float(w @ y), (x == y).astype(float)
    chance, same = p * q + (1 - p) * (1 - q), float(w @ agrees)
    of_units = np.unique(units, return_inverse=True)[1]
    moved = np.ones(len(x))
    if 1 - chance > 1e-12:
        by_chance = (2 * q - 1) * (x - p) + (2 * p - 1) * (y - q)
        moved = (agrees - same) / (1 - chance) - (1 - same) / (1 - chance) ** 2 * by_chance
    if not float(w @ moved**2) > 1e-12:
        moved = np.ones(len(x))
    sums = np.bincount(of_units, w * moved)
    return float(min(len(x), w @ moved**2 / (sums @ sums)))
