"""The seldom ways to the frontier: through a proxy, with a body in pieces, or by HEAD.

Not here: the usual way (``upstream``), which takes a fraction of the processor time.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from loop_pipeline.gateway.upstream.pool import CONNECT_S, KEEP_ALIVE_S, MOST_CONNECTIONS

# aiohttp would add these of its own.
NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Roundabout:
    """aiohttp's answer, as an ``Exchange`` has it. What goes wrong is an ``OSError``."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.raw_headers = [(name.lower(), value) for name, value in response.raw_headers]
        self.headers = dict(self.raw_headers)

    @property
    def ended(self) -> bool:
        """Whether all of it has come."""
        return self._response.content.at_eof()

    def __aiter__(self) -> Roundabout:
        return self

    async def __anext__(self) -> bytes:
        """The next piece of the body."""
        try:
            piece = await self._response.content.readany()
        except aiohttp.ClientError as error:
            raise as_os_error(error) from None
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self])

    async def settle(self, seconds: float) -> None:
        """Give the rest a moment to come, so that the connection can be kept; else close it."""
        if not self.ended:
            with suppress(aiohttp.ClientError, OSError):
                async with asyncio.timeout(seconds):
                    await self._response.content.readany()
        self.close()

    def close(self) -> None:
        """Close the connection if the answer has not ended."""
        if self.ended:
            self._response.release()
        else:
            self._response.close()


class ByAiohttp:
    """Its sessions: one that keeps connections, one that does not."""

    def __init__(self) -> None:
        limit = MOST_CONNECTIONS
        self._kept = _session(aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEP_ALIVE_S))
        self._fresh = _session(aiohttp.TCPConnector(limit=limit, force_close=True))

    async def send(
        self,
        url: str,
        method: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        seconds: float,
        fresh: bool,
        unpack: bool,
    ) -> Roundabout:
        """Send a request; as ``Pool.send``."""
        session = self._fresh if fresh else self._kept
        try:
            response = await session.request(
                method,
                URL(url, encoded=True),  # as it came: a path that is encoded twice is another one
                data=body,
                headers=[(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers],
                allow_redirects=False,
                auto_decompress=unpack,
                proxy=proxy_of(url),
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(CONNECT_S, seconds)),
            )
        except aiohttp.ClientError as error:
            raise as_os_error(error) from None
        return Roundabout(response)

    async def close(self) -> None:
        """Close every connection."""
        await self._kept.close()
        await self._fresh.close()


def proxy_of(url: str) -> str | None:
    """As HTTPS_PROXY and NO_PROXY say; aiohttp's own way would also send what is in ~/.netrc."""
    parts = urlsplit(url)
    return _proxy(parts.scheme, parts.hostname or "")


@lru_cache(maxsize=64)
def _proxy(scheme: str, host: str) -> str | None:
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(scheme)


def as_os_error(error: aiohttp.ClientError) -> OSError:
    """The same by its name only: its text may repeat what was sent."""
    if isinstance(error, OSError):
        return error
    return ConnectionError(type(error).__name__)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=NOT_OURS,
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=2**18,
    )
