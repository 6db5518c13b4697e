"""A connection to an upstream, with one exchange at a time.

Not here: what is said on it (``exchange_http.py``), and making it (``pool.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from loop_pipeline.gateway.upstream.exchange_http import Exchange


class Connection(asyncio.Protocol):
    """A connection to an upstream, with one exchange at a time."""

    def __init__(self, given_back: Callable[[Connection, bool], None]) -> None:
        """Made by an event loop.

        Args:
            given_back: told once an exchange, and whether the connection is good for another one.
        """
        self._given_back = given_back
        self._exchange: Exchange | None = None
        self._paused = False
        self.idle_since = 0.0
        self._transport: asyncio.Transport

    @property
    def closing(self) -> bool:
        """Whether it is closed, or being so."""
        return self._transport.is_closing()

    def ask(self, sent: bytes, body: bytes, seconds: float | None, *, kept: bool) -> Exchange:
        """Send a request."""
        self._exchange = exchange = Exchange(self, seconds, kept=kept)
        self._transport.write(sent)
        if body:
            self._transport.write(body)
        return exchange

    def done(self, exchange: Exchange) -> None:
        """The exchange has ended, well or not."""
        if self._exchange is not exchange:
            return
        self._exchange = None
        good = exchange.ended and exchange.reusable and not self._transport.is_closing()
        if good and not self._transport.get_write_buffer_size():
            if self._paused:
                self._read_on()
            self._given_back(self, True)
        else:
            self.abort()
            self._given_back(self, False)

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def pause(self) -> None:
        """Let the upstream wait."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self, exchange: Exchange) -> None:
        """Read on, if it is still this exchange that is read."""
        if self._paused and exchange is self._exchange and not self._transport.is_closing():
            self._read_on()

    def _read_on(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        # uvloop's is none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The upstream says something."""
        if self._exchange is None:
            self.abort()  # nobody asked
        else:
            self._exchange.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        if self._exchange is not None:
            self._exchange.lost(exc)
