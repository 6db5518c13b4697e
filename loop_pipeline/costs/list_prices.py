"""List prices of models, with the dates from which they hold, as the package genai-prices has them.

Not here: prices of your own (``own_prices.py``). Nothing is fetched: the list is the package's.
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from loop_pipeline.costs.model_names import names_of
from loop_pipeline.costs.token_price import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, TieredPrices

PACKAGE = "genai-prices"
# What the package calls the kinds of tokens.
KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "written": "cache_write_mtok",
    "written_1h": "cache_write_1h_mtok",
    "audio_in": "input_audio_mtok",
    "audio_out": "output_audio_mtok",
    "reasoning": "output_reasoning_mtok",
}
REQUESTS = "requests_kcount"
# Ways of asking that bill otherwise, as providers call them, and how the package says so.
TIERS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}


def list_version() -> str:
    """Which list it is."""
    return f"{PACKAGE} {version(PACKAGE)}"


def list_price(model: str, moment: dt.datetime, tier: str | None = None) -> Price | None:
    """The price of a model at a moment; None: the list has none.

    Args:
        model: as it was asked for, also of a build, and behind the name of a cloud or a proxy.
        moment: of the request.
        tier: one of ``TIERS``; None: as usual.
    """
    found = _model(model)
    if found is None:
        return None
    if tier is None:
        return _price(found.get_prices(moment))
    return _in_tier(found, moment, tier)


def by_the_hour(model: str) -> bool:
    """Whether its price depends on the time of day."""
    from genai_prices.types import TimeOfDateConstraint

    found = _model(model)
    prices = found.prices if found and isinstance(found.prices, list) else []
    return any(isinstance(price.constraint, TimeOfDateConstraint) for price in prices)


@lru_cache(maxsize=4096)
def _model(model: str) -> ModelInfo | None:
    # Half a second and 23 MB, which a process that prices nothing does without.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for seller, name in names_of(model):
        try:
            _, found = snapshot.find_provider_model(name, None, seller, None)
        except LookupError:
            continue
        return found
    return None


def _in_tier(model: ModelInfo, moment: dt.datetime, tier: str) -> Price | None:
    """The price of a tier; before the first day the list knows it for, in the same proportion."""
    own = [v for v in model.price_variants or () if v.when == TIERS[tier]]
    if not own:
        return None
    now = [v for v in own if v.constraint is None or v.constraint.active(moment)]
    if now:
        return _price(model.get_prices(moment, TIERS[tier]))
    first = min(own, key=_start)
    then = dt.datetime.combine(_start(first), dt.time(12), dt.UTC)
    usual, special = model.get_prices(then), model.get_prices(then, TIERS[tier])
    before, reduced = _price(usual), _price(special)
    if before is None or reduced is None or not before.input or reduced.input is None:
        return None
    found = _price(model.get_prices(moment))
    return found and found.times(reduced.input / before.input)


def _start(variant: PriceVariant) -> dt.date:
    return getattr(variant.constraint, "start_date", dt.date.min)


def _price(prices: ModelPrice) -> Price | None:
    """None: it bills by something else than tokens."""
    own = {name: prices.__dict__.get(key) for name, key in KEYS.items()}
    if own["input"] is None and own["output"] is None:
        return None
    request = float(prices.__dict__.get(REQUESTS) or 0) / 1000
    starts = {tier.start for rate in own.values() for tier in getattr(rate, "tiers", ())}
    longer = tuple(
        (start, Price(**_rates(own, start + 1), request=request))  # pyright: ignore[reportArgumentType]
        for start in sorted(starts)
    )
    return Price(**_rates(own, 0), request=request, longer=longer)


def _rates(own: dict[str, TieredPrices | None], sent: int) -> dict[str, float | None]:
    return {name: None if rate is None else _rate(rate, sent) for name, rate in own.items()}


def _rate(rate: TieredPrices, sent: int) -> float:
    if not hasattr(rate, "tiers"):
        return float(rate)  # pyright: ignore[reportArgumentType]
    found = rate.base
    for tier in rate.tiers:
        if sent > tier.start:
            found = tier.price
    return float(found)
