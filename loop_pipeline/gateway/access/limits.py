"""How much a key may ask for: at once, in a minute, in USD a day. Each process counts for itself.

Not here: whose key it is (``access.py``).
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from loop_pipeline.costs.prices import Prices
from loop_pipeline.costs.token_price import Tokens
from loop_pipeline.costs.unpriced import WHAT_TO_DO

MINUTE_S, DAY_S = 60.0, 86_400.0
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
    """Of one key, in this process."""

    def __init__(self) -> None:
        self._parallel: int | None = None
        self._per_minute: int | None = None
        self._usd_per_day: float | None = None
        self._now = 0
        self._recent: deque[float] = deque()
        self._day, self._usd = 0, 0.0

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
        usd = usd or 0.0
        if self._parallel is not None and self._now >= self._parallel:
            raise OverLimit(f"this key may have {self._parallel} requests at once", 1)
        now, clock = time.monotonic(), time.time()
        while self._recent and now - self._recent[0] >= MINUTE_S:
            self._recent.popleft()
        if self._per_minute is not None and len(self._recent) >= self._per_minute:
            wait = MINUTE_S - (now - self._recent[0]) if self._recent else MINUTE_S
            raise OverLimit(f"this key may ask {self._per_minute} times a minute", wait)
        day = int(clock // DAY_S)
        if day != self._day:
            self._day, self._usd = day, 0.0
        if self._usd_per_day is not None and self._usd + usd > self._usd_per_day:
            wait = DAY_S - clock % DAY_S
            raise OverLimit(f"this key may spend {self._usd_per_day:g} USD a day (UTC)", wait)
        self._now += 1
        self._recent.append(now)
        self._usd += usd
        return usd

    def end(self, reserved: float, usd: float) -> None:
        """Count it out, and what it did cost instead of what was reserved."""
        self._now -= 1
        self._usd = max(0.0, self._usd + usd - reserved)


def usd_at_most(
    prices: Prices, model: str, body_bytes: int, max_tokens: int | None
) -> float | None:
    """What a request is taken to cost before it is answered; None where no price is known."""
    price = prices.of(model, dt.datetime.now(dt.UTC))
    asked = Tokens(body_bytes // BYTES_A_TOKEN, max_tokens or USUAL_ANSWER)
    return price.cost(asked) if price else None
