"""How long a student's answer is waited for, from how long its last answers took.

Not here: asking (``students.py``).
"""

from __future__ import annotations

from collections import defaultdict, deque
from functools import partial
from typing import NamedTuple

# Of each adapter's latest calls.
KEPT = 200
# Fewer say nothing about their slowest twentieth.
ENOUGH = 20
TIMES = 3
# A student that answers in 5 ms must not be given up for one hiccup.
LEAST_S = 0.1


class Limit(NamedTuple):
    """Seconds, and whether being over them says something of the server, not only of the client."""

    seconds: float
    telling: bool = True


class Patience:
    """The least of what a deployment allows, thrice the recent p95, half of what a client waits.

    Args:
        most_s: what a deployment allows (``LOOP_STUDENT_PATIENCE_MS``).
    """

    def __init__(self, most_s: float) -> None:
        self._most = most_s
        self._took: dict[str, deque[float]] = defaultdict(partial(deque, maxlen=KEPT))

    def limit(self, adapter: str, client_timeout_s: float | None = None) -> Limit:
        """How long the next answer is waited for."""
        own, recent = self._most, self.p95(adapter)
        if recent is not None:
            own = min(own, max(LEAST_S, TIMES * recent))
        if client_timeout_s is not None and client_timeout_s / 2 < own:
            return Limit(max(0.0, client_timeout_s / 2), telling=False)
        return Limit(own)

    def p95(self, adapter: str) -> float | None:
        """The 95% quantile of its latest calls in seconds, None while there are few."""
        took = self._took.get(adapter, ())
        return sorted(took)[int(0.95 * len(took))] if len(took) >= ENOUGH else None

    def took(self, adapter: str, seconds: float) -> None:
        """Note a call that ended, or was given up after so long.

        Those given up count as well: else a student that becomes thrice as slow would never be
        waited for again.
        """
        self._took[adapter].append(seconds)
