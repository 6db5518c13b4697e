"""Exact bounds for a share: Clopper and Pearson (1934).

Tests over several thresholds are in ``fixed_sequence``.
"""

from __future__ import annotations

import math

from scipy.stats import beta


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial interval of a rate; (0, 1) without a row."""
    tail = (1 - level) / 2
    low = beta.ppf(tail, successes, n - successes + 1) if successes else 0.0
    high = beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def smallest_certifiable(alpha: float, delta: float) -> int:
    """Rows without a single error that prove an error rate of at most ``alpha`` (59 at 5%, 5%)."""
    return math.ceil(math.log(delta) / math.log(1 - alpha))


def lower_bound(good: int, n: int, delta: float) -> float:
    """Exact (Clopper-Pearson) lower bound on a share, wrong with chance at most ``delta``."""
    return float(beta.ppf(delta, good, n - good + 1)) if good else 0.0
