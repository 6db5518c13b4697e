"""What frontier models bill: a copy of list prices with its date.

Not here: what a student costs (``attribution.py``).
"""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field

PRICES_DATE = "2026-11"
PRICES_SOURCE = (
    "list prices in the model table bundled with litellm 1.109.1 (MIT), copied 2026-11; "
    "batch discounts are not applied"
)


# Names of clouds before a model's, as in us.anthropic.claude-opus-5-v1:0.
PROVIDER = re.compile(r"(?:(?:us|eu|apac|jp|au|global)\.)?(?:anthropic|openai|google|azure)\.")
# What is added to a name for one build of the model.
BUILD = re.compile(r"(?:[-@]20\d\d-?\d\d-?\d\d|-latest|@latest|@default|-v\d+(?::\d+)?|-00\d)$")


class Price(BaseModel):
    """USD for a million tokens."""

    model_config = ConfigDict(frozen=True)

    tokens_in: float = Field(ge=0)
    tokens_cached: float = Field(ge=0)
    tokens_out: float = Field(ge=0)

    def cost(self, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
        """What one request bills.

        Args:
            tokens_in: all prompt tokens, the cached ones included.
            tokens_cached: how many of them came from the provider's cache.
            tokens_out: tokens of the answer.

        Returns:
            USD.

        Raises:
            ValueError: a count is negative, or more tokens are cached than were sent.
        """
        if min(tokens_in, tokens_cached, tokens_out) < 0 or tokens_cached > tokens_in:
            raise ValueError(
                f"impossible token counts: {tokens_in} in, {tokens_cached} of them cached, "
                f"{tokens_out} out"
            )
        fresh = (tokens_in - tokens_cached) * self.tokens_in
        return (fresh + tokens_cached * self.tokens_cached + tokens_out * self.tokens_out) / 1e6


def _price(tokens_in: float, tokens_cached: float, tokens_out: float) -> Price:
    return Price(tokens_in=tokens_in, tokens_cached=tokens_cached, tokens_out=tokens_out)


PRICES = {
    "claude-haiku-4-5": _price(1.00, 0.10, 5.00),
    "claude-opus-4-8": _price(5.00, 0.50, 25.00),
    "claude-opus-5": _price(5.00, 0.50, 25.00),
    "claude-sonnet-5": _price(2.00, 0.20, 10.00),
    "gemini-3.1-pro-preview": _price(2.00, 0.20, 12.00),
    "gpt-5-mini": _price(0.25, 0.025, 2.00),
    "gpt-5.4": _price(2.50, 0.25, 15.00),
    "gpt-5.5": _price(5.00, 0.50, 30.00),
    "gpt-5.6": _price(4.00, 0.40, 20.00),
}


@lru_cache(maxsize=1024)  # few models, on every trace
def price_of(model: str) -> Price | None:
    """Price of a frontier model, also of a dated build and behind a provider's name.

    ``openai/gpt-5.5-2026-04-23`` bills as ``gpt-5.5``. None: no price is known.
    """
    name = model.strip().casefold()
    if name in PRICES:
        return PRICES[name]
    name = PROVIDER.sub("", name.rpartition("/")[2])
    while name not in PRICES and (shorter := BUILD.sub("", name)) != name:
        name = shorter
    return PRICES.get(name)


def price(model: str) -> Price:
    """Price of a frontier model.

    Raises:
        ValueError: no price is known; the message lists the models that have one.
    """
    known = price_of(model)
    if known is None:
        raise ValueError(f"no price for {model!r}; known: {', '.join(PRICES)}")
    return known
