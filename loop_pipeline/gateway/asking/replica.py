"""What a worker knows of one of the student's servers, and when it lets it rest.

Not here: asking it (``students.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

FAILURES = 5
REST_S = 10.0


@dataclass(eq=False)
class Replica:
    """One server, as this worker has met it.

    ``held`` are its adapters when it was last looked at, None as long as nobody knows; ``lacks``
    those it has denied since.
    """

    url: str
    held: frozenset[str] | None = None
    lacks: set[str] = field(default_factory=set)
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0

    def holds(self, adapter: str) -> bool:
        """Whether it may be asked for an adapter."""
        return adapter not in self.lacks and (self.held is None or adapter in self.held)

    def ready(self, now: float) -> bool:
        """Whether it does not rest; after a rest one request at a time probes it."""
        return self.failures < FAILURES or (now >= self.rests_until and not self.in_flight)

    def failed(self, now: float) -> None:
        """Count a failure: with five in a row it rests."""
        self.failures += 1
        if self.failures >= FAILURES:
            self.rests_until = now + REST_S
