"""What a process of the loop is: its command, where it is met, how it is asked and ended.

Not here: which ones a home takes (``home_services.py``), and their lives (``child.py``).
"""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

# A server that does not say within this whether it is well is not.
HEALTH_S = 3.0
# A server of one's own is not reached through a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def nothing() -> str:
    """For a service that waits for nothing."""
    return ""


@dataclass(frozen=True)
class Service:
    """One process of the loop; without a command it runs elsewhere and is only shown.

    Args:
        name: in tables, logs and file names.
        about: what it is there for, in a few words.
        command: its command line.
        environment: everything it is told; nothing else of this process's is.
        url: where people meet it.
        health: URL that answers 200 while it is well; empty: it is well while it lives.
        stop_signal: what asks it to end.
        stop_s: how long it may take for that.
        finish: what is run after it has ended for the last time, for at most as long again.
        waits_for: what has to be there before it can start, in words; "" if it is there.
    """

    name: str
    about: str
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    health: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 20.0
    finish: list[str] = field(default_factory=list)
    waits_for: Callable[[], str] = nothing

    @property
    def elsewhere(self) -> bool:
        """Whether it is none of ours."""
        return not self.command

    def well(self) -> bool:
        """Whether it answers that it is well; asks it, if there is something to ask."""
        if not self.health:
            return True
        try:
            with _OPENER.open(self.health, timeout=HEALTH_S) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError, ValueError):
            return False
