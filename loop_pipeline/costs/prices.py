"""What frontier models bill: a copy of list prices with its date.

Not here: what a student costs (``attribution.py``).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

PRICES_DATE = "2026-11"
PRICES_SOURCE = (
    "list prices in the model table bundled with litellm 1.109.1 (MIT), copied 2026-11; "
    "batch discounts are not applied"
)


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


def price(model: str) -> Price:
    """Price of a frontier model.

    Raises:
        ValueError: no price is known; the message lists the models that have one.
    """
    if model not in PRICES:
        raise ValueError(f"no price for {model!r}; known: {', '.join(PRICES)}")
    return PRICES[model]
