"""Exact bounds for a share: Clopper and Pearson (1934).

Tests over several thresholds are in ``fixed_sequence``. The router loads this module, hence the
plain functions of ``scipy.special``: ``scipy.stats`` takes a second and 40 MB to import.
"""

from __future__ import annotations

import math

from scipy.special import bdtr, betaincinv


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of a rate; (0, 1) without a row."""
    tail = (1 - level) / 2
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return lower_bound(successes, n, tail), high


def lower_bound(good: float, n: float, delta: float) -> float:
    """Exact lower bound on a share, wrong with chance at most ``delta``.

    Counts need not be whole: rows that err together are worth fewer (``design_effect``).
    """
    return float(betaincinv(good, n - good + 1, delta)) if good > 0 else 0.0


def p_at_most(errors: int, n: int, rate: float) -> float:
    """Exact chance of at most so many errors among n rows, if each is wrong with this rate.

    It is the p-value of "the error rate is at least ``rate``".
    """
    return float(bdtr(errors, n, rate))


def smallest_certifiable(alpha: float, delta: float) -> int:
    """Rows without a single error that prove an error rate of at most ``alpha`` (59 at 5%, 5%)."""
    return math.ceil(math.log(delta) / math.log(1 - alpha))
