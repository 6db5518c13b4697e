"""Prices of your own, from the YAML file that LOOP_PRICES_FILE names: they win over any list.

Not here: list prices (``list_prices.py``), and which of the two counts (``prices.py``).
"""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from loop_pipeline.costs.model_names import names_of
from loop_pipeline.costs.token_price import Price

# A price for a million tokens is not this small; the price of one token is.
LEAST = 0.0005
MOST = 100_000.0


class WrongPrices(ValueError):
    """The file cannot be used; the text names it, the line, what is wrong and what to do."""


class _Rates(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    input: float | None = None
    output: float | None = None
    cached: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    audio_in: float | None = None
    audio_out: float | None = None
    reasoning: float | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _usd(cls, value: Any, info: Any) -> Any:
        if info.field_name not in _Rates.model_fields or value is None:
            return value
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError("write a number, with a point and without a currency, such as 2.5")
        if not 0 <= value <= MOST:
            raise ValueError(f"a price is from 0 to {MOST:,.0f} USD for a million tokens")
        if 0 < value < LEAST:
            raise ValueError(
                f"{value:g} looks like the price of one token; write USD for a million, such as "
                f"{value * 1e6:g}"
            )
        return value

    def price(self, base: Price | None = None) -> Price:
        """As a price; what it does not say stays as in ``base``."""
        own = {
            **{name: getattr(self, name) for name in ("input", "output", "cached", "reasoning")},
            **{name: getattr(self, name) for name in ("audio_in", "audio_out")},
            "written": self.cache_write,
            "written_1h": self.cache_write_1h,
        }
        kept = {k: getattr(base, k) if v is None and base else v for k, v in own.items()}
        return Price(**kept)


class _Longer(_Rates):
    over: int = Field(gt=0, description="More tokens sent than these; for all of its tokens.")


class _Entry(_Rates):
    model: str = Field(min_length=1)
    start: dt.date = Field(dt.date.min, alias="from")
    input: float | None = Field(...)
    output: float | None = Field(...)
    request: float = Field(0.0, ge=0, le=MOST, description="USD for each request.")
    batch: float | None = Field(None, ge=0, le=10, description="Factor on batched requests.")
    flex: float | None = Field(None, ge=0, le=10)
    priority: float | None = Field(None, ge=0, le=10)
    fast: float | None = Field(None, ge=0, le=10)
    long_context: list[_Longer] = Field([])

    @field_validator("start", mode="before")
    @classmethod
    def _day(cls, value: Any) -> Any:
        if type(value) is not dt.date:
            raise ValueError("write a day, such as 2026-07-01")
        return value

    def whole(self) -> Price:
        """With its tiers of length."""
        base = self.price()
        tiers = sorted(self.long_context, key=lambda tier: tier.over)
        longer = tuple((tier.over, _of_request(tier.price(base), self.request)) for tier in tiers)
        return Price(**{**vars(base), "request": self.request, "longer": longer})


def _of_request(price: Price, request: float) -> Price:
    return Price(**{**vars(price), "request": request})


@dataclass(frozen=True)
class OwnPrices:
    """What the file says, by model, the newest price first; ``name`` tells one state of it."""

    name: str
    entries: Mapping[str, tuple[_Entry, ...]]

    def find(self, model: str, moment: dt.datetime, tier: str | None) -> tuple[bool, Price | None]:
        """Whether the file has a price of the model at that moment, and the price.

        The price is None where the file says nothing of the tier.
        """
        for name in (model.strip().casefold(), *(n.model for n in names_of(model))):
            for entry in self.entries.get(name, ()):
                if moment.date() >= entry.start:
                    return True, _in_tier(entry, tier)
        return False, None


def _in_tier(entry: _Entry, tier: str | None) -> Price | None:
    if tier is None:
        return entry.whole()
    factor = getattr(entry, tier)
    return None if factor is None else entry.whole().times(factor)


def read_own_prices(path: Path) -> OwnPrices:
    """Read and check the file.

    Raises:
        WrongPrices: it is not there, no YAML, or an entry is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found = yaml.safe_load(text)
    except OSError as error:
        raise WrongPrices(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise WrongPrices(f"{path}, line {line}: no YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise WrongPrices(f"{path}: no YAML: {error}") from None
    if not isinstance(found, list) or not found:
        raise WrongPrices(
            f"{path}, line 1: write a list, each entry beginning with `- model: NAME`, and below it"
            " input and output in USD for a million tokens"
        )
    lines = [item.start_mark.line + 1 for item in node.value] if node is not None else []
    return _checked(path, found, lines, hashlib.sha256(text.encode()).hexdigest()[:8])


def _checked(path: Path, found: list[Any], lines: list[int], version: str) -> OwnPrices:
    by_model: dict[str, dict[dt.date, tuple[_Entry, int]]] = {}
    for number, (value, line) in enumerate(zip(found, lines, strict=True), start=1):
        where = f"{path}, line {line}, entry {number}"
        entry = _entry(value, where)
        own = by_model.setdefault(entry.model.strip().casefold(), {})
        if (before := own.get(entry.start)) is not None:
            raise WrongPrices(
                f"{where} ({entry.model}): line {before[1]} has a price of this model from the same"
                " day; leave one of them, or give the later one its `from`"
            )
        own[entry.start] = (entry, line)
    entries = {
        model: tuple(own[day][0] for day in sorted(own, reverse=True))
        for model, own in by_model.items()
    }
    return OwnPrices(f"{path.name} {version}", entries)


def _entry(value: Any, where: str) -> _Entry:
    if not isinstance(value, dict):
        raise WrongPrices(f"{where}: write `model: NAME`, and below it input and output")
    try:
        return _Entry.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        model = f" ({value['model']})" if isinstance(value.get("model"), str) else ""
        raise WrongPrices(f"{where}{model}: {name}: {_said(first, name)}") from None


def _said(error: Any, name: str) -> str:
    if error["type"] == "missing":
        unit = "" if name == "model" else ", USD for a million tokens; 0 if it is free"
        return f"is missing; write `{name}: …`{unit}"
    if error["type"] == "extra_forbidden":
        known = ["from" if n == "start" else n for n in _Entry.model_fields]
        meant = difflib.get_close_matches(name.rpartition(".")[2], [*known, "over"], n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
        return f"no field is called so; {hint}"
    return str(error["msg"]).removeprefix("Value error, ")
