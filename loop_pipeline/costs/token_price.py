"""What a provider bills a request for: tokens by kind, and a price for each kind.

Not here: which price a model has (``prices.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MILLION = 1_000_000


class Tokens(NamedTuple):
    """What a request took. Each kind is part of ``sent`` or of ``answered``, and billed once.

    ``written_1h`` is the part of ``written`` that a cache keeps for an hour.
    """

    sent: int = 0
    answered: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0
    audio_in: int = 0
    audio_out: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Price:
    """USD for a million tokens of each kind; a kind without a price of its own bills as the rest.

    ``request`` is USD for one request. ``longer`` has the price of requests with more tokens sent
    than a number, the smallest number first; it holds for all of their tokens.
    """

    input: float | None
    output: float | None
    cached: float | None = None
    written: float | None = None
    written_1h: float | None = None
    audio_in: float | None = None
    audio_out: float | None = None
    reasoning: float | None = None
    request: float = 0.0
    longer: tuple[tuple[int, Price], ...] = ()

    def cost(self, tokens: Tokens) -> float | None:
        """USD of one request; None if it has tokens of a kind that has no price.

        Kinds that add up to more than there is are cut, the rarest first: nothing counts twice.
        """
        price = self._at(tokens.sent) if self.longer else self
        if not any(tokens[2:]) and price.input is not None and price.output is not None:
            # Nearly every request, and this is done for each of an import.
            sent, answered = tokens.sent * price.input, tokens.answered * price.output
            return price.request + (sent + answered) / MILLION
        usd = price.request
        for count, rate in price._parts(tokens):
            if count > 0:
                if rate is None:
                    return None
                usd += count * rate / MILLION
        return usd

    def times(self, factor: float) -> Price:
        """The same at a discount, or dearer."""
        rates = {name: rate and rate * factor for name, rate in self._rates().items()}
        longer = tuple((over, price.times(factor)) for over, price in self.longer)
        return Price(**rates, request=self.request * factor, longer=longer)

    def _rates(self) -> dict[str, float | None]:
        return {name: getattr(self, name) for name in KINDS}

    def _at(self, sent: int) -> Price:
        found = self
        for over, longer in self.longer:
            if sent > over:
                found = longer
        return found

    def _parts(self, tokens: Tokens) -> tuple[tuple[int, float | None], ...]:
        cached = min(tokens.cached, tokens.sent)
        written = min(tokens.written, tokens.sent - cached)
        hour = min(tokens.written_1h, written)
        heard = min(tokens.audio_in, tokens.sent - cached - written)
        spoken = min(tokens.audio_out, tokens.answered)
        thought = min(tokens.reasoning, tokens.answered - spoken)
        short = _either(self.written, self.input)
        return (
            (tokens.sent - cached - written - heard, self.input),
            (cached, _either(self.cached, self.input)),
            (written - hour, short),
            (hour, _either(self.written_1h, short)),
            (heard, _either(self.audio_in, self.input)),
            (tokens.answered - spoken - thought, self.output),
            (spoken, _either(self.audio_out, self.output)),
            (thought, _either(self.reasoning, self.output)),
        )


def cost_of_all(price: Price | None, requests: Iterable[Tokens]) -> float | None:
    """USD of several requests, each by its own length; None: unpriced, or nothing was counted."""
    costs = [price.cost(tokens) for tokens in requests if any(tokens)] if price else []
    return math.fsum(usd or 0.0 for usd in costs) if costs and None not in costs else None


KINDS = (
    *("input", "output", "cached", "written", "written_1h"),
    *("audio_in", "audio_out", "reasoning"),
)


def _either(own: float | None, rest: float | None) -> float | None:
    return rest if own is None else own
