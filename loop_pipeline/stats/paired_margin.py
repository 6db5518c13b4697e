"""Is one error rate at most so much above another, where both were counted on the same rows? Exact.

Not here: a difference without a margin (``paired.py``), and choosing a threshold with it
(``confidence/relative_certificate.py``).

Of n rows, b are wrong for the first only and c for the second only; the difference of the two error
rates is that of the chances of b and c. Outcomes are ordered by Tango's score statistic (1998), and
the exact chance of one as good as the observed depends on the rate of c, which nobody knows: an
upper bound of it is taken that is wrong with a twentieth of delta, and the worst rate below it
(Berger and Boos 1994).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

# What of delta is spent on the bound of the rate that nobody knows.
BOUND_SHARE = 0.05
# Rates that are tried below it: the chance grows with the rate, but for steps of a count.
RATES = 25
# Standard deviations beyond which an outcome is left out: its chance is below 1e-14.
FAR = 8.0
# Stands for a chance of nothing: its logarithm times a count is as good as minus infinity.
TINY = 1e-300

Floats = NDArray[np.float64]


def within_margin(
    first_only: int, second_only: int, n: int, *, margin: float, delta: float
) -> bool:
    """Whether the first error rate is at most the second's plus ``margin``, except by ``delta``.

    Args:
        first_only: rows on which the first alone is wrong.
        second_only: rows on which the second alone is wrong.
        n: all rows, drawn independently.
        margin: how much larger the first rate may be, above 0.
        delta: allowed chance of a yes where it is larger.
    """
    seen = _score(np.array([float(first_only)]), np.array([float(second_only)]), n, margin)[0]
    if seen >= 0:
        return False
    spent = BOUND_SHARE * delta
    most = 1.0
    if second_only < n:
        most = float(betaincinv(second_only + 1, n - second_only, 1 - spent))
    most = min(most, (1 - margin) / 2)
    first, second = np.meshgrid(
        np.arange(_reach(n, most + margin) + 1.0), np.arange(_reach(n, most) + 1.0)
    )
    as_good = (first + second <= n) & (_score(first, second, n, margin) <= seen + 1e-9)
    first, second = first[as_good], second[as_good]
    rest = n - first - second
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, n + 1)))])
    ways = log_factorial[n] - sum(log_factorial[k.astype(int)] for k in (first, second, rest))
    # The worst rate is mostly the highest: a no is found early.
    for rate in np.linspace(most, 0.0, RATES):
        logs = [math.log(max(q, TINY)) for q in (rate + margin, rate, 1 - 2 * rate - margin)]
        chance = np.exp(ways + first * logs[0] + second * logs[1] + rest * logs[2])
        if float(chance.sum()) + spent > delta:
            return False
    return True


def least_rows(margin: float, delta: float) -> int:
    """Rows without a single difference that prove a margin."""
    n = 1
    while not within_margin(0, 0, n, margin=margin, delta=delta):
        n *= 2
    low = n // 2
    while n - low > 1:
        middle = (low + n) // 2
        proved = within_margin(0, 0, middle, margin=margin, delta=delta)
        low, n = (low, middle) if proved else (middle, n)
    return n


def _score(first: Floats, second: Floats, n: int, margin: float) -> Floats:
    """Tango's statistic at the margin: below 0 where the first is less than so much worse."""
    slope = -first - second + (2 * n - first + second) * margin
    root = np.sqrt(slope**2 + 8 * n * second * margin * (1 - margin))
    rate = (root - slope) / (4 * n)
    spread = np.sqrt(n * (2 * rate + margin * (1 - margin)))
    return (first - second - n * margin) / spread


def _reach(n: int, rate: float) -> int:
    """The largest count that has to be looked at."""
    return min(n, math.ceil(n * rate + FAR * math.sqrt(n * rate * (1 - rate)) + FAR))
