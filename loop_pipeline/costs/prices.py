"""What a request billed: by your own prices where you name them, else by the list of its day.

Not here: what a student costs (``attribution.py``). What has no price is unpriced: None, never 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from loop_pipeline.costs.list_prices import TIERS, by_the_hour, list_price, list_version
from loop_pipeline.costs.own_prices import OwnPrices, read_own_prices
from loop_pipeline.costs.token_price import Price, Tokens

# Columns of a trace, in the order of ``Tokens``.
COUNTS = (
    *("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_write", "tokens_cache_write_1h"),
    *("tokens_audio_in", "tokens_audio_out", "tokens_reasoning"),
)
# Of models and days that are remembered; finding a price takes a thousand times longer.
REMEMBERED = 8192
HALF_HOUR = 30
# Stands for a price that another half hour may change.
BY_THE_HOUR = Price(None, None)


class Prices:
    """Prices that hold here. Each is looked up once a model and day, and then remembered."""

    def __init__(self, own: OwnPrices | None = None) -> None:
        self._own = own
        self._on_day = lru_cache(REMEMBERED)(self._find_day)
        self._at = lru_cache(REMEMBERED)(self._find)

    @property
    def version(self) -> str:
        """Which prices these are: the list, and the state of your own file."""
        return f"{list_version()} + {self._own.name}" if self._own else list_version()

    def of(self, model: str, moment: dt.datetime, tier: str | None = None) -> Price | None:
        """The price of a model at a moment; None: it is unpriced.

        Args:
            model: as it was asked for.
            moment: of the request, in UTC.
            tier: how it was asked, as the provider calls it; only those of ``TIERS`` bill
                otherwise.
        """
        known = tier.casefold() if tier else None
        known = known if known in TIERS else None
        found = self._on_day(model, moment.toordinal(), known)
        if found is not BY_THE_HOUR:
            return found
        half = moment.minute // HALF_HOUR * HALF_HOUR
        return self._at(model, moment.replace(minute=half, second=0, microsecond=0), known)

    def usd(self, row: Mapping[str, Any]) -> float | None:
        """What a trace did cost, from its model, its moment and its tokens; None: unpriced.

        A student's server is paid by the hour, so its answers bill nothing by the token. No
        tokens at all: they were not logged, so nobody knows.
        """
        sent, answered = row["tokens_in"], row["tokens_out"]
        if not sent and not answered:
            return None if row["producer"] == "frontier" else 0.0
        price = self.of(row["model"], row["ts"], row["service_tier"])
        if price is None and row["served_model"] and row["producer"] == "frontier":
            price = self.of(row["served_model"], row["ts"], row["service_tier"])
        if price is None:
            return None if row["producer"] == "frontier" else 0.0
        return price.cost(Tokens(sent, answered, *(row[name] for name in COUNTS[2:])))

    def _find_day(self, model: str, day: int, tier: str | None) -> Price | None:
        if by_the_hour(model) and not (self._own and self._own.find(model, _noon(day), tier)[0]):
            return BY_THE_HOUR
        return self._find(model, _noon(day), tier)

    def _find(self, model: str, moment: dt.datetime, tier: str | None) -> Price | None:
        if self._own:
            found, price = self._own.find(model, moment, tier)
            if found:
                return price
        return list_price(model, moment, tier)


def _noon(day: int) -> dt.datetime:
    return dt.datetime.fromordinal(day).replace(hour=12, tzinfo=dt.UTC)


LIST_PRICES = Prices()
"""For whoever has no prices of his own."""


def prices_of(path: Path | None) -> Prices:
    """List prices, and before them those of a file, as it is now.

    Raises:
        WrongPrices: the file is wrong.
    """
    if path is None:
        return LIST_PRICES
    return Prices(read_own_prices(path))
