"""What rows, surest first, say about the share of errors in the traffic behind them.

Not here: where a walk over thresholds ends (``fixed_sequence.py``), and what units do to a count
(``design_effect.py``).

A row is a distinct request and counts as often as it was asked. Most are asked seldom: what is
found on them speaks about others like them, unit by unit. A request that makes up much of the
traffic cannot: there is only one of it. But the answer to it is known, and it will be given again.
So requests that are asked often count by themselves, with all that they are asked, and the share
of errors among the others has to be the lower the more of them are wrong. It is never allowed to be
higher because of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc

from loop_pipeline.stats.binomial import lower_bound, smallest_certifiable
from loop_pipeline.stats.units.design_effect import effective_prefixes

Floats = NDArray[np.float64]

# A request is asked often if fewer than twice the rows a promise takes could weigh as much ...
LARGE = 2
# ... and if its share of the traffic is known well enough.
LEAST_TIMES = 5
# Error rates that bets are laid on, as shares of the one that is spoken against.
BETS = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


class Evidence(NamedTuple):
    """Of the first 1, 2, ... rows; each of shape (..., n)."""

    rows: Floats
    """Independent rows that those asked seldom are worth."""
    errors: Floats
    """Errors among these."""
    units: Floats
    """Units of equal weight that they are worth."""
    limit: Floats
    """Error rate that they must prove to be below, at most ``alpha``."""
    need: int
    """Units without an error that would prove it."""
    often: Floats
    """Requests of the traffic that are for those asked often, and ..."""
    wrong: Floats
    """... how many of them get a wrong answer."""
    seldom: Floats
    """Requests of the traffic that are for the others."""

    def at(self, last: ArrayLike) -> Evidence:
        """The same of some prefixes only.

        Args:
            last: shape (..., k), their last rows, counted from 0.
        """
        of = np.asarray(last)
        picked = {
            name: np.take_along_axis(part, of, -1)
            for name, part in self._asdict().items()
            if name != "need"
        }
        return self._replace(**picked)

    def least_agreement(self, at: int, delta: float) -> float:
        """Lower bound of the share of right answers among the traffic of the first rows.

        Args:
            at: the last of them, counted from 0.
            delta: chance that it is too high.
        """
        rows, errors = float(self.rows[at]), float(self.errors[at])
        least = lower_bound(rows - errors, rows, delta) if rows > 0 else 0.0
        right = self.often[at] - self.wrong[at] + least * self.seldom[at]
        return float(right / (self.often[at] + self.seldom[at]))

    @property
    def p_values(self) -> Floats:
        """Chance of so few errors, if the share of errors were ``limit``; 1 if units are few."""
        rows = np.maximum(self.rows, 1e-9)
        errors = np.minimum(self.errors, rows * (1 - 1e-12))
        found = betainc(rows - errors, errors + 1, 1 - np.clip(self.limit, 0, 1))
        return np.where(self._usable, found, 1.0)

    @property
    def e_values(self) -> Floats:
        """Evidence against a share of errors of ``limit`` that one may look at at any time.

        The mean over bets, each the likelihood of a lower rate over that of ``limit``: its
        expectation never exceeds 1 while the share is higher. 0 if units are few.
        """
        limit = np.clip(self.limit, 1e-9, 1 - 1e-9)[..., None]
        errors, good = self.errors[..., None], (self.rows - self.errors)[..., None]
        wealth = errors * np.log(BETS) + good * np.log((1 - BETS * limit) / (1 - limit))
        found = np.exp(np.minimum(np.logaddexp.reduce(wealth, axis=-1), 700)) / len(BETS)
        return np.where(self._usable, found, 0.0)

    @property
    def _usable(self) -> NDArray[np.bool_]:
        return (self.units >= self.need - 1e-9) & (self.limit > 0)


def evidence(
    error: ArrayLike,
    unit: ArrayLike | None = None,
    times: ArrayLike | None = None,
    *,
    alpha: float,
    delta: float,
) -> Evidence:
    """Count what the first k rows show, for every k.

    Args:
        error: shape (..., n), whether the answer is wrong, the surest answer first; the leading
            axes are separate samples.
        unit: shape (..., n), codes from 0 of rows that err together; None: each by itself.
        times: shape (..., n), how often the request was asked; None: once.
        alpha: largest share of errors allowed in the traffic.
        delta: allowed chance that it is larger.
    """
    wrong = np.asarray(error, dtype=float)
    each = np.broadcast_to(np.arange(wrong.shape[-1]), wrong.shape)
    code = each if unit is None else np.asarray(unit, dtype=np.int64)
    asked = np.ones(wrong.shape) if times is None else np.asarray(times, dtype=float)
    need = smallest_certifiable(alpha, delta)
    large = np.maximum(asked.sum(-1, keepdims=True) / (LARGE * need), LEAST_TIMES)
    seldom = np.where(asked > large, 0.0, asked)
    often, others = (asked - seldom).cumsum(-1), seldom.cumsum(-1)
    bad = ((asked - seldom) * wrong).cumsum(-1)
    allowed = alpha * (often + others) - bad
    limit = np.divide(allowed, others, out=np.zeros_like(others), where=others > 0)
    worth = effective_prefixes(wrong, code, seldom)
    return Evidence(
        worth.rows,
        worth.errors,
        worth.units,
        np.minimum(limit, alpha),
        need,
        often,
        bad,
        others,
    )
