"""Which port a server gets: the one that is wanted, or the next that is free.

Not here: who listens there (``home_services.py``).
"""

from __future__ import annotations

import contextlib
import socket

HOST = "127.0.0.1"
# If a port is taken, one of the next is used.
MOST_TRIED = 20
ANYWHERE = {"0.0.0.0": HOST, "": HOST, "::": "::1"}  # noqa: S104


class Ports:
    """Gives ports away, none of them twice."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self, wanted: int, host: str = HOST) -> int:
        """The wanted port, or the next that is free on that host.

        Raises:
            RuntimeError: all of the next twenty are taken.
        """
        last = min(wanted + MOST_TRIED, 65536)
        for port in range(wanted, last):
            if port not in self._given and _is_free(port, host):
                self._given.add(port)
                return port
        raise RuntimeError(f"no free port from {wanted} to {last - 1}: name another")


def _is_free(port: int, host: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((host, port))
            return True
    return False


def moved(wanted: int, port: int) -> str:
    """Words for people, if it is not the port they expect."""
    return "" if port == wanted else f" (port {wanted} is taken)"


def url_of(host: str, port: int) -> str:
    """Where a server that listens on this host is met from this machine."""
    host = ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
