"""How much a key may ask for: at once, in a minute, in USD a day, over all workers of a gateway.

Not here: whose key it is (``access.py``), and where it is counted (``used_up.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.costs.prices import price_of
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


class NoLimits:
    """Of a key without limits."""

    def begin(self, usd: float) -> float:
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

    def begin(self, usd: float) -> float:
        """Count a request in, and reserve what it may cost. Returns what ``end`` gives back.

        Raises:
            OverLimit: it is one too many; nothing is counted.
        """
        now, clock = time.monotonic(), time.time()

        def count(used: UsedUp) -> None:
            used.until(now, int(clock // DAY_S))
            self._check(used, usd, now, clock)
            used.begin(now, usd)

        self._used.change(count)
        return usd

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


def usd_at_most(model: str, body_bytes: int, max_tokens: int | None) -> float:
    """What a request is taken to cost before it is answered; 0 where no price is known."""
    price = price_of(model)
    if price is None:
        return 0.0
    return price.cost(body_bytes // BYTES_A_TOKEN, 0, max_tokens or USUAL_ANSWER)


def usd_of(model: str, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
    """What an answer did cost; 0 where no price is known."""
    price = price_of(model)
    if price is None or min(tokens_in, tokens_out) < 0:
        return 0.0
    return price.cost(tokens_in, max(0, min(tokens_cached, tokens_in)), tokens_out)
