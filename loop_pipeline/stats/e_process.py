"""Running evidence against a claim about a mean, which one may look at at any time.

Not here: what is done about it (``rollout/canary.py``, ``monitoring/risk.py``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Shares of the wealth that are bet at once; the best one depends on how often the two differ. These
# take the fewest rows where two models differ on 4 to 15% of them.
BETS = np.array([0.2, 0.35, 0.6])
# A process that saw good months has lost its wealth and is deaf: a fresh one begins every so many
# rows, and each lives so long.
RESTART = 500
LIFE = 2_000
# A change seldom falls on the row at which one begins. So it bets most of its wealth from its first
# row on, and keeps the rest for later rows of its 500, as much for each: what was kept is not lost.
AT_ONCE = 0.85
EVERY = 50
# What a bet on one disagreement stakes, in units of one over the promised share of them.
STAKES = np.array([0.025, 0.05, 0.1, 0.2, 0.4])
# Evidence is not counted further than this, in logarithms.
CAP = 27.6


def e_value(up: ArrayLike, down: ArrayLike, n: ArrayLike, bound: float) -> NDArray[np.float64]:
    """Evidence against "a mean of values in {-1, 0, 1} is at most ``bound``".

    Args:
        up: how many of the values are 1; any shape, as the other counts.
        down: how many are -1.
        n: how many there are.
        bound: between -1 and 1, ends excluded.

    Returns:
        The wealth of the mixture, 1 before the first value. Its expectation never exceeds 1 while
        the claim holds. Capped at 1e12.
    """
    ups, downs, all_ = (np.asarray(v, dtype=float)[..., None] for v in (up, down, n))
    wealth = (
        ups * np.log1p(BETS * (1 - bound))
        + (all_ - ups - downs) * np.log1p(-BETS * bound)
        + downs * np.log1p(-BETS * (1 + bound))
    )
    return np.exp(np.minimum(wealth, CAP)).mean(axis=-1)


def restarted_e_values(values: ArrayLike, bound: float) -> NDArray[np.float64]:
    """Evidence against "a share is at most ``bound``" by processes that begin again and again.

    Each is a mean over five bets of products of ``1 + bet * (value - bound)``. It reaches 100 with
    chance at most 1% while the claim holds, so that the chance of any alarm grows by at most 1%
    every 500 rows.

    Args:
        values: 0 or 1 in the order they came, along the last axis; of a stream that is longer, from
            a row on whose number is a multiple of ``RESTART``.
        bound: between 0 and 1, ends excluded.

    Returns:
        After each value the highest wealth of the processes that live then.
    """
    x = np.asarray(values, dtype=float)
    top = np.zeros(x.shape)
    for begin in range(0, x.shape[-1], RESTART):
        here = slice(begin, begin + LIFE)
        top[..., here] = np.maximum(top[..., here], _one_process(x[..., here], bound))
    return top


def _one_process(x: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Wealth after each value of one that begins before the first of them."""
    rows = np.arange(x.shape[-1])
    starts = rows[(rows < RESTART) & (rows % EVERY == 0)]
    share = np.where(starts == 0, AT_ONCE, (1 - AT_ONCE) / (RESTART // EVERY - 1))
    started = np.minimum(rows // EVERY, len(starts) - 1)
    kept = np.maximum(0.0, 1 - np.cumsum(share))[started]
    ones = np.cumsum(x, axis=-1)
    zeros = rows + 1 - ones
    wealth = np.zeros(x.shape)
    for stake in STAKES:
        grown = ones * np.log1p(stake / bound - stake) + zeros * np.log1p(-stake)
        # What is bet from a row on has grown by what all has since the row before.
        before = np.where(starts == 0, 0.0, grown[..., starts - 1])
        bet = np.log(np.cumsum(share * np.exp(-before), axis=-1))[..., started]
        wealth += np.exp(np.minimum(grown + bet, CAP)) / len(STAKES)
    return wealth + kept
