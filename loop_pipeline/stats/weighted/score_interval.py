"""Intervals for a mean of values in [0, 1] whose rows were seen with different chances.

Not here: the estimates themselves (``stats/off_policy.py``, ``stats/ppi.py``).

A normal interval is too narrow where few of the rows that weigh most are errors: a lucky draw shows
no errors and therefore no spread. So the rows are put in cells of about the same chance, and each
cell gets what Wilson's score interval (1927) does to a share: a centre pulled to one half and a
spread that is never zero. With one cell, equal weights and independent rows it *is* Wilson's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from loop_pipeline.stats.units.design_effect import effective

Floats = NDArray[np.float64]


class Cell(NamedTuple):
    """Rows that were seen with about the same chance."""

    share: float
    """Of the mean that rests on them."""
    rows: float
    """Independent rows of equal weight that they are worth."""
    rest: float
    """Mean of the values, less what was guessed of them."""
    spread: float
    """Variance of that difference."""
    guess: float
    """Mean of the guesses; 0 where nothing was guessed."""


def chance_classes(chance: Floats) -> NDArray[np.int64]:
    """Classes of chances that differ by less than the factor two, shape (n,)."""
    return np.floor(-np.log2(chance) + 1e-9).astype(np.int64)


def cells_of(
    value: Floats, guess: Floats, weight: Floats, classes: NDArray[Any], units: NDArray[np.int64]
) -> list[Cell]:
    """The cells of the rows that were seen.

    Args:
        value: shape (n,), each in [0, 1].
        guess: shape (n,), what was guessed of each, times the factor it is used with.
        weight: shape (n,), above 0.
        classes: shape (n,), which cell each row is in.
        units: shape (n,), rows with the same code are lost together.
    """
    total, found = float(weight.sum()), []
    for name in np.unique(classes):
        own = classes == name
        w, rest = weight[own], (value - guess)[own]
        _, codes = np.unique(units[own], return_inverse=True)
        # Scaled so that rows of equal weight weigh 1: then the sum of weights is a count of rows.
        worth = effective(1 - value[own], codes, w * w.sum() / (w @ w))
        mean = float(w @ rest / w.sum())
        spread = float(w @ (rest - mean) ** 2 / w.sum())
        known = float(w @ guess[own] / w.sum())
        found.append(Cell(float(w.sum()) / total, float(worth.rows), mean, spread, known))
    return found


def reach(variance: float, cells: Sequence[Cell] = (), level: float = 0.95) -> tuple[float, float]:
    """How far an interval reaches below and above its estimate, both squared.

    That of a normal interval, with what Wilson's interval of each cell adds to it: offsets of
    independent parts add up by their squares (Zou & Donner 2008). It is never less than what
    the cells reach by themselves.

    Args:
        variance: of the estimate, by its influence values.
        cells: its rows; none: the plain normal interval.
        level: of the interval.
    """
    z = float(norm.ppf(0.5 + level / 2))
    plain, below, above = z**2 * variance, 0.0, 0.0
    for cell in cells:
        n = cell.rows
        pull = z**2 * (0.5 - cell.guess - cell.rest) / (n + z**2)
        half = z * np.sqrt(n * cell.spread + z**2 / 4) / (n + z**2)
        plain -= cell.share**2 * z**2 * cell.spread / n
        below += cell.share**2 * max(half - pull, 0.0) ** 2
        above += cell.share**2 * max(half + pull, 0.0) ** 2
    return max(plain, 0.0) + below, max(plain, 0.0) + above
