"""One request that was sent, and its answer as it comes.

Not here: the connection (``connection.py``), and which one it is (``pool.py``).

httptools reads the answer; aiohttp's client, which does far more, takes a third of the processor
time of a request that passes the gateway.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Of the head of an answer. aiohttp and Node read less.
MOST_HEAD = 64 * 1024
# Bytes that nobody has taken yet; then the upstream has to wait.
MOST_WAITING = 2**18
FIRST_FINAL = 200
_PACKED = (b"gzip", b"x-gzip", b"deflate", b"br", b"zstd", b"compress")


class BadAnswer(ConnectionError):
    """What came is no answer of HTTP, or one that nobody asked for."""


class Stale(ConnectionError):
    """A kept connection was closed before anything came: a fresh one may answer."""


class Line(Protocol):
    """What an exchange needs of its connection."""

    def done(self, exchange: Exchange) -> None:
        """The exchange has ended, well or not."""

    def pause(self) -> None:
        """Let the upstream wait."""

    def resume(self, exchange: Exchange) -> None:
        """Read on, if it is still this exchange that is read."""


class Exchange:
    """An answer whose head is there. Whoever does not read it to its end has to ``close`` it.

    ``status``, ``raw_headers``: of the answer, names in small letters; ``headers``: them by name.
    ``ended``: all of it has come. ``reusable``: its connection is good for another one.
    """

    def __init__(self, connection: Line, seconds: float | None, *, kept: bool) -> None:
        self.status, self.ended = 0, False
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.headers: dict[bytes, bytes] = {}
        self.reusable = self._until_close = False
        self._connection, self._kept = connection, kept
        self._parser = HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._waiting = self._seen = 0
        self._unzip: zlib._Decompress | None = None
        self._problem: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._timer = self._loop.call_later(seconds, self._late) if seconds is not None else None

    async def head(self) -> None:
        """Wait for the head.

        Raises:
            OSError: there is none.
        """
        while not self.status:
            if self._problem is not None:
                raise self._problem
            await self._wait()

    def unpack(self) -> None:
        """Give the body as it was before it was packed for the way."""
        coding = self.headers.get(b"content-encoding", b"").strip().lower()
        if coding in _PACKED:
            # 32: the head says whether it is gzip or zlib. Nothing else was asked for, or is read.
            self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def __aiter__(self) -> Exchange:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body, as much at once as there is.

        Raises:
            OSError: it broke off, or was not whole in time.
        """
        piece = await (self._raw() if self._unzip is None else self._unzipped(self._unzip))
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            OSError: it broke off, or was not whole in time.
        """
        if self.ended and self._unzip is None:
            return self._taken()
        return b"".join([piece async for piece in self])

    async def _raw(self) -> bytes:
        while not self._parts:
            if self.ended:
                return b""
            if self._problem is not None:
                raise self._problem
            await self._wait()
        return self._taken()

    async def _unzipped(self, unzip: zlib._Decompress) -> bytes:
        try:
            while packed := unzip.unconsumed_tail or await self._raw():
                if piece := unzip.decompress(packed, MOST_WAITING):
                    return piece
            rest, self._unzip = unzip.flush(), None
        except zlib.error:
            raise BadAnswer("its body is not packed as it says") from None
        if not unzip.eof:
            raise BadAnswer("its packed body ended before its end")
        return rest

    async def settle(self, seconds: float) -> None:
        """Give the rest a moment to come, so that the connection can be kept; else close it."""
        if self.ended or self._problem is not None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wait()
        except TimeoutError:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection if the answer has not ended: the upstream notices and stops."""
        if not self.ended:
            self._fail(ConnectionAbortedError("closed on our side"))

    def _taken(self) -> bytes:
        parts, self._parts, waiting, self._waiting = self._parts, [], self._waiting, 0
        if waiting > MOST_WAITING:
            self._connection.resume(self)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _late(self) -> None:
        self._fail(TimeoutError("the answer was not whole in time"))

    def _fail(self, problem: Exception) -> None:
        if self._problem is None:
            self._problem = problem
            self._over()
            self._connection.done(self)

    def _over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        del self._parser  # it holds us: without this each exchange would be a ring
        self._wake()

    def feed(self, data: bytes) -> None:
        """Take what the upstream says."""
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            if not self.ended:
                self._fail(BadAnswer(f"no answer of HTTP: {type(error).__name__}"))
                return
        if not self.status:
            self._seen += len(data)
            if self._seen > MOST_HEAD:
                self._fail(BadAnswer("a head without end"))
        elif self.ended:
            self._over()
            self._connection.done(self)
        else:
            self._wake()

    def lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        if self._until_close and error is None:
            self.ended = True
            self._over()
        elif self._kept and not self._seen and not self.status:
            self._problem = Stale("a kept connection was closed")
            self._over()
        else:
            known = error if isinstance(error, OSError) else None
            self._problem = known or ConnectionResetError("it ended before its end")
            self._over()
        self._connection.done(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Of the answer, or of one that nobody asked for."""
        if self.ended:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one after the body is nobody's."""
        if not self.status:
            self.raw_headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is whole; one below 200 only says that another comes."""
        if self.ended:
            return
        status = self._parser.get_status_code()
        if status < FIRST_FINAL:
            self.raw_headers = []
            return
        self.status, self.headers = status, dict(self.raw_headers)
        self.reusable = self._parser.should_keep_alive()
        if not self.reusable:
            framed = (b"content-length", b"transfer-encoding")
            self._until_close = not any(name in self.headers for name in framed)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self.ended:
            return
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting > MOST_WAITING:
            self._connection.pause()

    def on_message_complete(self) -> None:
        """All of it has come."""
        self.ended = self.status > 0
