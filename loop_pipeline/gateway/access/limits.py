"""How much a key may ask for: at once, in a minute, in USD a day, over all workers of a gateway.

Not here: whose key it is (``access.py``), and where it is counted (``used_up.py``).
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.costs.prices import Prices
from loop_pipeline.costs.token_price import Tokens
from loop_pipeline.costs.unpriced import WHAT_TO_DO
from loop_pipeline.gateway.access.used_up import DAY_S, MINUTE_S, SharedUse, UsedUp

# What a request is taken to cost until it is known: JSON has about so many bytes a token, and an
# answer without a limit of its own is taken to have so many tokens.
BYTES_A_TOKEN = 3
USUAL_ANSWER = 1000


class OverLimit(Exception):
    """The key has used up what it has; ``retry_after`` is in whole seconds."""

    def __init__(self, said: str, retry_after: float) -> None:
        super().__init__(said)
        self.retry_after = max(1, math.ceil(retry_after))


class Unpriced(Exception):
    """What it would cost is not known, and the key has a limit in USD."""


class NoLimits:
    """Of a key without limits."""

    def begin(self, usd: float | None) -> float:
        """Nothing is counted."""
        del usd
        return 0.0

    def end(self, reserved: float, usd: float) -> None:
        """Nothing is counted."""


class Limits:
    """Of one key."""

    def __init__(self, path: Path | None = None) -> None:
        """Nothing is limited yet.

        Args:
            path: where all workers count what the key uses; None: only this process counts.
        """
        self._used = SharedUse(path)
        self._parallel: int | None = None
        self._per_minute: int | None = None
        self._usd_per_day: float | None = None

    def set(self, limits: Mapping[str, Any]) -> None:
        """New limits; what is used up stays so."""
        self._parallel = limits.get("parallel")
        self._per_minute = limits.get("per_minute")
        self._usd_per_day = limits.get("usd_per_day")

    def begin(self, usd: float | None) -> float:
        """Count a request in, and reserve what it may cost. Returns what ``end`` gives back.

        Args:
            usd: at most; None: nobody knows.

        Raises:
            OverLimit: it is one too many; nothing is counted.
            Unpriced: the key has a limit in USD that could not be kept.
        """
        if usd is None and self._usd_per_day is not None:
            raise Unpriced(
                f"this key may spend {self._usd_per_day:g} USD a day, and nobody knows what this "
                f"model costs: {WHAT_TO_DO}"
            )
        most = usd or 0.0
        now, clock = time.monotonic(), time.time()

        def count(used: UsedUp) -> None:
            used.until(now, int(clock // DAY_S))
            self._check(used, most, now, clock)
            used.begin(now, most)

        self._used.change(count)
        return most

    def _check(self, used: UsedUp, usd: float, now: float, clock: float) -> None:
        if self._parallel is not None and sum(used.going_on.values()) >= self._parallel:
            raise OverLimit(f"this key may have {self._parallel} requests at once", 1)
        if self._per_minute is not None and sum(n for _, n in used.asked) >= self._per_minute:
            wait = MINUTE_S - (now - used.asked[0][0]) if used.asked else MINUTE_S
            raise OverLimit(f"this key may ask {self._per_minute} times a minute", wait)
        if self._usd_per_day is not None and used.usd + usd > self._usd_per_day:
            wait = DAY_S - clock % DAY_S
            raise OverLimit(f"this key may spend {self._usd_per_day:g} USD a day (UTC)", wait)

    def end(self, reserved: float, usd: float) -> None:
        """Count it out, and what it did cost instead of what was reserved."""
        self._used.change(lambda used: used.end(usd - reserved))


def usd_at_most(
    prices: Prices, model: str, body_bytes: int, max_tokens: int | None
) -> float | None:
    """What a request is taken to cost before it is answered; None where no price is known."""
    price = prices.of(model, dt.datetime.now(dt.UTC))
    asked = Tokens(body_bytes // BYTES_A_TOKEN, max_tokens or USUAL_ANSWER)
    return price.cost(asked) if price else None
