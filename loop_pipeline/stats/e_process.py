"""Running evidence against a claim about a mean, which one may look at at any time.

Not here: what is done about it (``rollout/canary.py``).

What happens when it wins belongs to ``rollout``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Shares of the wealth that are bet at once; the best one depends on how often the two differ.
BETS = np.geomspace(0.05, 0.9, 8)


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
    return np.exp(np.minimum(np.logaddexp.reduce(wealth, axis=-1) - np.log(len(BETS)), 27.6))
