"""Asks the frontier: one session a worker, a list of URLs, one retry on a fresh connection.

Not here: what of the client's headers goes along (``header_rules.py``), and what is done with the
answer (``answering.py``, ``pass_through.py``).
"""

from __future__ import annotations

import logging
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

# Shorter than any upstream's: vLLM closes a connection that was idle for 5 s.
KEEP_ALIVE_S = 4.0
CONNECT_S = 10.0
# Of one worker. More wait for one of these.
MOST_CONNECTIONS = 2000
# An answer in one piece that is longer is passed on as it comes, and not captured.
MOST_ANSWER = 64 * 1024**2
# aiohttp would add these of its own.
NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# Of a status that is tried elsewhere, if there is an elsewhere.
TOO_MANY, SERVER_ERROR = 429, 500

_log = logging.getLogger(__name__)
_nothing = aiohttp.ClientTimeout(total=None)


class Unreachable(Exception):
    """No URL gave an answer; ``code`` and ``status`` are those of the error the client gets."""

    def __init__(self, said: str, *, code: str, status: int) -> None:
        super().__init__(said)
        self.code, self.status = code, status


@dataclass(slots=True)
class Opened:
    """An answer whose head is there; its body still has to be read."""

    response: aiohttp.ClientResponse
    attempts: int

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.response.status

    @property
    def streamed(self) -> bool:
        """Whether it is a stream of events."""
        return self.status < 300 and self.response.content_type == "text/event-stream"

    def close(self) -> None:
        """Close the connection: the upstream notices and stops."""
        self.response.close()


@dataclass(slots=True)
class _Job:
    """One request on its way through the URLs. A body that comes in pieces is sent ``once``."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes | AsyncIterator[bytes] | None
    method: str
    decompress: bool
    end: float
    attempts: int = 0
    refused: str = ""

    @property
    def once(self) -> bool:
        return not isinstance(self.body, bytes | None)


class Frontier:
    """The session of one worker. Made and used in its event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._kept = _session(
            aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S)
        )
        self._fresh = _session(aiohttp.TCPConnector(limit=MOST_CONNECTIONS, force_close=True))

    async def ask(
        self,
        urls: tuple[str, ...],
        path: str,
        headers: list[tuple[str, str]],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        method: str = "POST",
        decompress: bool = True,
    ) -> Opened:
        """Ask the URLs in turn until one gives an answer that is neither 429 nor 5xx.

        If none does, the last one's answer that there was is returned, whole. A body that can be
        read once only is sent once only.

        Raises:
            Unreachable: there was no answer at all, or no time is left.
        """
        job = _Job(path, headers, body, method, decompress, time.monotonic() + self._timeout_s)
        last: Opened | None = None
        for number, base in enumerate(urls):
            response = await self._at(base, job)
            if response is None:
                if job.once:
                    break
                continue
            last = Opened(response, job.attempts)
            if not _worth_another(response.status) or job.once:
                break
            if number + 1 < len(urls):
                await _keep(response)
        if last is not None:
            return last
        said = f"the frontier cannot be reached ({job.refused})"
        raise Unreachable(said, code="loop_frontier_unreachable", status=502)

    async def _at(self, base: str, job: _Job) -> aiohttp.ClientResponse | None:
        """Ask one URL, on a kept connection and then on a fresh one. None: it gave no answer."""
        for session in (self._kept, self._fresh):
            left = job.end - time.monotonic()
            if left <= 0:
                raise _timed_out(self._timeout_s)
            job.attempts += 1
            try:
                return await _send(session, base, job, left)
            except (aiohttp.ClientError, OSError) as error:
                if job.end - time.monotonic() <= 0:
                    raise _timed_out(self._timeout_s) from None
                host = urlsplit(base).netloc.rpartition("@")[2]
                job.refused = f"{host}: {type(error).__name__}"
                # One that does not even connect in time will not at once.
                if isinstance(error, TimeoutError) or job.once:
                    break
        return None

    async def close(self) -> None:
        """Close every connection."""
        await self._kept.close()
        await self._fresh.close()


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=NOT_OURS,
        timeout=_nothing,
        read_bufsize=2**18,
    )


async def _send(
    session: aiohttp.ClientSession, base: str, job: _Job, left: float
) -> aiohttp.ClientResponse:
    return await session.request(
        job.method,
        _url(base, job.path),
        data=job.body,
        headers=job.headers,
        allow_redirects=False,
        auto_decompress=job.decompress,
        proxy=_proxy(base),
        timeout=aiohttp.ClientTimeout(total=left, sock_connect=min(CONNECT_S, left)),
    )


async def _keep(response: aiohttp.ClientResponse) -> None:
    """Read what a refusal says while another URL is asked; one that cannot be read is empty."""
    try:
        await response.read()
    except (aiohttp.ClientError, OSError):
        response.close()


def _worth_another(status: int) -> bool:
    return status == TOO_MANY or status >= SERVER_ERROR


def _timed_out(seconds: float) -> Unreachable:
    return Unreachable(
        f"the frontier gave no answer within {seconds:g} s",
        code="loop_frontier_timeout",
        status=504,
    )


@lru_cache(maxsize=1024)
def _url(base: str, path: str) -> URL:
    # As it came: a path that is encoded twice is another one.
    return URL(base + path, encoded=True)


@lru_cache(maxsize=64)
def _proxy(base: str) -> str | None:
    """As HTTPS_PROXY and NO_PROXY say; aiohttp's own way would also send what is in ~/.netrc."""
    parts = urlsplit(base)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


async def read_answer(opened: Opened) -> tuple[bytes, bool]:
    """The body in one piece, or its beginning if it is longer than ``MOST_ANSWER``.

    Returns:
        The bytes, and whether they are all.

    Raises:
        Unreachable: it broke off.
    """
    response = opened.response
    try:
        if (response.content_length or MOST_ANSWER) < MOST_ANSWER or response.status >= 400:
            return await response.read(), True
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MOST_ANSWER:
                return b"".join(parts), False
        return b"".join(parts), True
    except TimeoutError:
        raise Unreachable(
            "the frontier's answer did not end in time", code="loop_frontier_timeout", status=504
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        said = f"the frontier's answer broke off ({type(error).__name__})"
        raise Unreachable(said, code="loop_frontier_broken", status=502) from None
