"""What requests that a student answered would have cost at the frontier: an estimate.

Not here: what was really paid (``attribution.py``), and reading it from the store.

The frontier would have been sent the same request but would have written another answer, in tokens
of another kind, some of them from its cache. What that comes to is measured on the requests that
both have answered: the ratio of what the frontier billed to the student's tokens at a plain price.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.costs.token_price import MILLION
from loop_pipeline.costs.unpriced import UNPRICED

# Fewer requests that both have answered say too little about the others.
MIN_PAIRS = 20
# Without a known price tokens are weighed as most list prices do: an answer's count five times.
PLAIN_WEIGHTS = (1.0, 5.0)
LEVEL = 0.95


@dataclass(frozen=True)
class Weights:
    """What a token counts on the way in and out: USD if ``is_price``, else only in proportion."""

    tokens_in: float
    tokens_out: float
    is_price: bool

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """The weight of a request's tokens, or of the sum over many requests."""
        return self.tokens_in * tokens_in + self.tokens_out * tokens_out


@dataclass(frozen=True)
class Estimate:
    """USD with a 95% interval, and on how many requests that both answered it rests.

    ``low`` and ``high`` are None where these are too few for an interval, ``usd`` too if there is
    no price either; ``why`` says so in words.
    """

    usd: float | None
    low: float | None
    high: float | None
    pairs: int
    why: str


def weights_of(
    model: str, prices: Prices = LIST_PRICES, moment: dt.datetime | None = None
) -> Weights:
    """What tokens weigh by the price of a frontier model; by their proportion if it is unpriced.

    Args:
        model: of the frontier.
        prices: that hold here.
        moment: of the price; None: now.
    """
    known = prices.of(model, moment or dt.datetime.now(dt.UTC)) if model else None
    if known is None or known.input is None or known.output is None:
        return Weights(*PLAIN_WEIGHTS, is_price=False)
    return Weights(known.input / MILLION, known.output / MILLION, is_price=True)


def all_frontier(
    *,
    billed_usd: float,
    pairs: Sequence[tuple[float, float]],
    rest: float,
    rest_requests: int,
    weights: Weights,
) -> Estimate:
    """The bill if the frontier had answered every request.

    A ratio estimate; its interval holds the error of the ratio and the chance in what is estimated.

    Args:
        billed_usd: what the frontier did bill for requests of this window, each counted once.
        pairs: (weight of the student's tokens, USD that the frontier billed) of requests that both
            answered and the student's answer went out: a uniform sample, drawn by the shadow coin.
        rest: weight of the tokens of all requests that the student alone answered.
        rest_requests: how many these are.
        weights: what ``pairs`` and ``rest`` were weighed with.
    """
    if not rest_requests:
        return Estimate(billed_usd, billed_usd, billed_usd, len(pairs), "the frontier answered all")
    x, y = (np.array([pair[i] for pair in pairs], dtype=float) for i in (0, 1))
    n = len(pairs)
    if n < MIN_PAIRS or not x.sum() > 0:
        return _without_interval(billed_usd, rest, n, weights)
    ratio = float(y.sum() / x.sum())
    spread = float(((y - ratio * x) ** 2).sum() / (n - 1))
    variance = rest**2 * spread / (n * float(x.mean()) ** 2) + rest_requests * spread
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(variance)
    usd = billed_usd + ratio * rest
    why = f"measured on {n:,} requests that both have answered"
    return Estimate(usd, max(billed_usd, usd - half), usd + half, n, why)


def _without_interval(billed_usd: float, rest: float, n: int, weights: Weights) -> Estimate:
    lacking = f"{n} of the {MIN_PAIRS} requests that both must have answered for an interval"
    if not weights.is_price:
        return Estimate(
            None, None, None, n, f"the frontier is {UNPRICED}; and there are only {lacking}"
        )
    why = f"the student's tokens at the frontier's price; {lacking}"
    return Estimate(billed_usd + rest, None, None, n, why)
