"""Asks the frontier: a list of URLs, one retry on a fresh connection each, one time for all.

Not here: what of the client's headers goes along (``header_rules.py``), what is done with the
answer (``answering.py``, ``pass_through.py``), and connections (``upstream``, ``by_aiohttp.py``).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from loop_pipeline.gateway.frontier.by_aiohttp import ByAiohttp, Roundabout, proxy_of
from loop_pipeline.gateway.upstream.exchange_http import Exchange
from loop_pipeline.gateway.upstream.pool import Origin, Pool, origin_of, request_head

# An answer in one piece that is longer is passed on as it comes, and not captured.
MOST_ANSWER = 64 * 1024**2
# Of a status that is tried elsewhere, if there is an elsewhere.
TOO_MANY, SERVER_ERROR = 429, 500

Headers = list[tuple[bytes, bytes]]
Body = bytes | AsyncIterator[bytes] | None


class Unreachable(Exception):
    """No URL gave an answer; ``code`` and ``status`` are those of the error the client gets."""

    def __init__(self, said: str, *, code: str, status: int) -> None:
        super().__init__(said)
        self.code, self.status = code, status


@dataclass(slots=True)
class Opened:
    """An answer whose head is there; its body still has to be read."""

    response: Exchange | Roundabout | Held
    attempts: int

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.response.status

    @property
    def streamed(self) -> bool:
        """Whether it is a stream of events."""
        kind = self.response.headers.get(b"content-type", b"").partition(b";")[0]
        return self.status < 300 and kind.strip().lower() == b"text/event-stream"

    def close(self) -> None:
        """Close the connection: the upstream notices and stops."""
        self.response.close()


@dataclass(slots=True)
class _Job:
    """One request on its way through the URLs. A body that comes in pieces is sent ``once``."""

    path: str
    headers: Headers
    body: Body
    method: str
    decompress: bool
    end: float
    attempts: int = 0
    refused: str = ""

    @property
    def once(self) -> bool:
        return not isinstance(self.body, bytes | None)


class Frontier:
    """The connections of one worker. Made and used in its event loop."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool, self._by_aiohttp = Pool(), ByAiohttp()

    async def ask(
        self,
        urls: tuple[str, ...],
        path: str,
        headers: Headers,
        body: Body,
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
            if number + 1 == len(urls) or not _worth_another(response.status) or job.once:
                return Opened(response, job.attempts)
            if (held := await _held(response)) is not None:
                last = Opened(held, job.attempts)
        if last is not None:
            return last
        said = f"the frontier cannot be reached ({job.refused})"
        raise Unreachable(said, code="loop_frontier_unreachable", status=502)

    async def _at(self, base: str, job: _Job) -> Exchange | Roundabout | None:
        """Ask one URL, on a kept connection and then on a fresh one. None: it gave no answer."""
        for fresh in (False, True):
            left = job.end - time.monotonic()
            if left <= 0:
                raise _timed_out(self._timeout_s)
            job.attempts += 1
            try:
                return await self._send(base, job, left, fresh=fresh)
            except OSError as error:
                if job.end - time.monotonic() <= 0:
                    raise _timed_out(self._timeout_s) from None
                host = urlsplit(base).netloc.rpartition("@")[2]
                job.refused = f"{host}: {type(error).__name__}"
                # One that does not even connect in time will not at once.
                if isinstance(error, TimeoutError) or job.once:
                    break
        return None

    async def _send(
        self, base: str, job: _Job, left: float, *, fresh: bool
    ) -> Exchange | Roundabout:
        body, origin = job.body, _direct(base)
        if origin is None or job.method == "HEAD" or not isinstance(body, bytes | None):
            return await self._by_aiohttp.send(
                *(base + job.path, job.method, job.headers, body),
                seconds=left,
                fresh=fresh,
                unpack=job.decompress,
            )
        head = request_head(origin, job.method, job.path, job.headers, body)
        exchange = await self._pool.send(origin, head, body or b"", seconds=left, fresh=fresh)
        if job.decompress:
            exchange.unpack()
        return exchange

    async def close(self) -> None:
        """Close every connection."""
        self._pool.close()
        await self._by_aiohttp.close()


@lru_cache(maxsize=64)
def _direct(base: str) -> Origin | None:
    """Where a URL is, None if it is reached through a proxy, or nobody knows what it means."""
    try:
        return None if proxy_of(base) else origin_of(base)
    except ValueError:
        return None


class Held:
    """A refusal that was read before it is known whether it is needed."""

    def __init__(self, response: Exchange | Roundabout, body: bytes) -> None:
        self.status, self.headers = response.status, response.headers
        self.raw_headers, self.ended = response.raw_headers, True
        self._left = [body] if body else []

    def __aiter__(self) -> Held:
        return self

    async def __anext__(self) -> bytes:
        """The body, once."""
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()

    async def read(self) -> bytes:
        """The body."""
        return b"".join([piece async for piece in self])

    async def settle(self, seconds: float) -> None:
        """Nothing more comes."""

    def close(self) -> None:
        """It is closed."""


async def _held(response: Exchange | Roundabout) -> Held | None:
    """Read what a refusal says while another URL is asked; None if it cannot be read."""
    try:
        return Held(response, await response.read())
    except OSError:
        response.close()
        return None


def _worth_another(status: int) -> bool:
    return status == TOO_MANY or status >= SERVER_ERROR


def _timed_out(seconds: float) -> Unreachable:
    return Unreachable(
        f"the frontier gave no answer within {seconds:g} s",
        code="loop_frontier_timeout",
        status=504,
    )


async def read_answer(opened: Opened) -> tuple[bytes, bool]:
    """The body in one piece, or its beginning if it is longer than ``MOST_ANSWER``.

    Returns:
        The bytes, and whether they are all.

    Raises:
        Unreachable: it broke off.
    """
    response = opened.response
    try:
        parts, size = [], 0
        async for part in response:
            parts.append(part)
            size += len(part)
            if size > MOST_ANSWER:
                return b"".join(parts), False
        return b"".join(parts), True
    except TimeoutError:
        raise Unreachable(
            "the frontier's answer did not end in time", code="loop_frontier_timeout", status=504
        ) from None
    except OSError as error:
        said = f"the frontier's answer broke off ({type(error).__name__})"
        raise Unreachable(said, code="loop_frontier_broken", status=502) from None
