"""Connections to upstreams, kept for a while, and requests as bytes.

Not here: what goes over one (``exchange_http.py``), and proxies (``frontier/by_aiohttp.py``).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from socket import SOCK_STREAM
from urllib.parse import unquote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from loop_pipeline.gateway.upstream.connection import Connection
from loop_pipeline.gateway.upstream.exchange_http import Exchange

# Shorter than any upstream's: vLLM closes a connection that was idle for 5 s.
KEEP_ALIVE_S = 4.0
CONNECT_S = 10.0
# Of one worker. More wait for one of these.
MOST_CONNECTIONS = 2000
# So long a name's addresses are known; RFC 8305's pause before the next of them is tried too.
ADDRESSES_S, NEXT_ADDRESS_S = 10.0, 0.25
# Longer bodies are not copied behind their head.
JOINED = 64 * 1024
# They say so where they have no body.
WITH_LENGTH = ("POST", "PUT", "PATCH")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, eq=False, slots=True)
class Origin:
    """Where requests go: one server, and the beginning of all paths there."""

    host: str
    port: int
    tls: bool
    path: str
    fixed: bytes
    """Headers that every request has."""


@lru_cache(maxsize=256)
def origin_of(url: str) -> Origin:
    """The origin of a URL, with its user and password as HTTP has them.

    Raises:
        ValueError: it is no URL of HTTP.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("no URL of http or https")
    host = parts.hostname
    host = host if host.isascii() else host.encode("idna").decode()
    port = parts.port or PORTS[parts.scheme]
    named = f"[{host}]" if ":" in host else host
    named += f":{port}" if port != PORTS[parts.scheme] else ""
    fixed = f"host: {named}\r\n"
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        fixed += f"authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n"
    return Origin(host, port, parts.scheme == "https", parts.path, fixed.encode("latin-1"))


def request_head(
    origin: Origin,
    method: str,
    path: str,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes | None,
) -> bytes:
    """The head of a request.

    Raises:
        ValueError: a header has a line break in it; whose it is remains unsaid.
    """
    lines = [b"%b: %b\r\n" % header for header in headers]
    if body is not None or method in WITH_LENGTH:
        lines.append(b"content-length: %d\r\n" % len(body or b""))
    target = f"{method} {origin.path}{path} HTTP/1.1\r\n".encode("latin-1")
    head = b"%b%b%b\r\n" % (target, origin.fixed, b"".join(lines))
    breaks = len(lines) + 2 + origin.fixed.count(b"\n")
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise ValueError("a header of a request has a line break in it")
    return head


class Pool:
    """The connections of one worker; used from its event loop only."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = defaultdict(list)
        self._closed = False
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._sweep: asyncio.TimerHandle | None = None
        self._addresses: dict[Origin, tuple[float, Sequence[AddrInfoType]]] = {}
        # So that a hundred new connections look a name up once.
        self._looking: dict[Origin, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def send(
        self,
        origin: Origin,
        head: bytes,
        body: bytes,
        *,
        seconds: float | None = None,
        fresh: bool = False,
    ) -> Exchange:
        """Send a request. Returns once the head of its answer is there.

        Args:
            origin: whom to ask.
            head: of the request.
            body: of it.
            seconds: for everything, to the last byte of the answer.
            fresh: take no kept connection.

        Raises:
            OSError: no answer, and why.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if self._slots.locked():
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        else:
            await self._slots.acquire()
        connection = None if fresh else self._kept(origin, began)
        kept = connection is not None
        try:
            if connection is None:
                connection = await self._connect(origin, seconds)
                if seconds is not None:
                    seconds = max(0.0, seconds - (loop.time() - began))
        except BaseException:
            self._slots.release()
            raise
        if len(body) <= JOINED:
            head, body = head + body, b""
        exchange = connection.ask(head, body, seconds, kept=kept)
        try:
            await exchange.head()
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self) -> None:
        """Close the connections that nobody uses, and the others as soon as nobody does."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def _kept(self, origin: Origin, now: float) -> Connection | None:
        """The one that was used last: it has been idle for the shortest time."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.closing and now - connection.idle_since < KEEP_ALIVE_S:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(min(CONNECT_S, CONNECT_S if seconds is None else seconds)):
            addresses = await self._look_up(origin)
            try:
                sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_S)
            except OSError:
                self._addresses.pop(origin, None)
                raise
            _, connection = await loop.create_connection(
                lambda: Connection(lambda c, good: self._given_back(origin, c, good=good)),
                sock=sock,
                ssl=_tls() if origin.tls else None,
                server_hostname=origin.host if origin.tls else None,
            )
        return connection

    async def _look_up(self, origin: Origin) -> Sequence[AddrInfoType]:
        loop = asyncio.get_running_loop()
        async with self._looking[origin]:
            until, known = self._addresses.get(origin, (0.0, []))
            if loop.time() >= until:
                known = await loop.getaddrinfo(origin.host, origin.port, type=SOCK_STREAM)
                self._addresses[origin] = loop.time() + ADDRESSES_S, known
        return known

    def _given_back(self, origin: Origin, connection: Connection, *, good: bool) -> None:
        self._slots.release()
        if not good or self._closed:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[origin].append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(KEEP_ALIVE_S, self._swept)

    def _swept(self) -> None:
        """Close what has been idle for too long, and look again if anything is left."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_ALIVE_S
        for origin, connections in list(self._idle.items()):
            for connection in connections:
                if connection.idle_since <= oldest:
                    connection.abort()
            left = [connection for connection in connections if not connection.closing]
            self._idle[origin] = left
            if not left:
                del self._idle[origin]
        self._sweep = loop.call_later(KEEP_ALIVE_S / 4, self._swept) if self._idle else None


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """The system's certificates, verified; a name that does not fit is refused."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
