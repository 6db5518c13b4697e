"""Asks the student's servers while a client waits: which replica, how patiently, and what then.

Not here: whether the answer goes out (``cascade.py``), and loading adapters (``serving``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from loop_pipeline.gateway.asking.patience import Limit, Patience
from loop_pipeline.gateway.asking.replica import Replica
from loop_pipeline.gateway.upstream.exchange_http import Exchange, Stale
from loop_pipeline.gateway.upstream.pool import Pool, origin_of, request_head
from loop_pipeline.serving.student_answer import (
    Answer,
    Messages,
    NonsenseReply,
    question_body,
    read_answer,
    too_long,
)

# The longest answer with the log-probabilities of its tokens is far smaller.
MAX_BYTES = 8 * 1024**2
# Between two looks at which adapters a replica holds, and how long one may take.
LOOK_S, LOOK_LIMIT_S = 5.0, 2.0
# An answer that came packed would only be unpacked again.
ACCEPTED = (b"accept-encoding", b"identity")
NO_TRACE: Mapping[str, str] = {}


class NoAnswer(Exception):
    """The student gave no usable answer; the text says why, in words for the trace."""


class _Elsewhere(NoAnswer):
    """This replica gave none, another one may."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What one request sends to a replica, whichever it is."""

    body: bytes
    headers: list[tuple[bytes, bytes]]


class Students:
    """The replicas of one installation; one object a worker, used from its event loop only.

    Args:
        pool: the worker's; connections are kept in it.
        urls: of the replicas, without ``/v1``.
        max_tokens: of an answer, at most, as it was evaluated.
        patience: how long an answer is waited for.
        api_key: of the servers, empty: they ask for none.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        pool: Pool,
        urls: Sequence[str],
        *,
        max_tokens: int,
        patience: Patience,
        api_key: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._clock = pool, clock
        self._max_tokens, self.patience = max_tokens, patience
        self.replicas = [Replica(url.rstrip("/")) for url in urls]
        self.outcomes: Counter[str] = Counter()
        self._headers = [(b"content-type", b"application/json"), ACCEPTED]
        if api_key:
            self._headers.append((b"authorization", f"Bearer {api_key}".encode()))

    async def answer(
        self, adapter: str, messages: Messages, limit: Limit, trace: Mapping[str, str] = NO_TRACE
    ) -> Answer:
        """Ask one replica, and another one once if it fails.

        Args:
            adapter: name of the cheaper model.
            messages: the request.
            limit: for all of it, to the last byte; then the connection is closed, so that the
                server stops.
            trace: headers of the distributed trace that the server's work belongs to.

        Raises:
            NoAnswer: there is none; the text says why.
        """
        body = _bytes(question_body(adapter, messages, self._max_tokens))
        headers = [(name.encode(), value.encode("latin-1")) for name, value in trace.items()]
        question = _Question(body, self._headers + headers)
        start = self._clock()
        tried: list[Replica] = []
        try:
            async with asyncio.timeout(limit.seconds):
                answer = await self._from_one_or_another(adapter, question, tried)
        except TimeoutError:
            self._gave_up(adapter, limit, tried)
            raise NoAnswer(f"the student did not answer within {limit.seconds:.3g} s") from None
        except NoAnswer:
            self.outcomes["failed"] += 1
            raise
        took = self._clock() - start
        self.patience.took(adapter, took)
        self.outcomes["answered"] += 1
        return answer

    def _gave_up(self, adapter: str, limit: Limit, tried: Sequence[Replica]) -> None:
        self.outcomes["slow"] += 1
        if limit.telling:
            self.patience.took(adapter, limit.seconds)
            if tried:
                tried[-1].failed(self._clock())

    async def _from_one_or_another(
        self, adapter: str, question: _Question, tried: list[Replica]
    ) -> Answer:
        problem = f"no server that does not rest holds {adapter}"
        for _ in range(2):
            replica = self._choose(adapter, tried)
            if replica is None:
                break
            tried.append(replica)
            replica.in_flight += 1
            try:
                return await self._ask(replica, adapter, question)
            except _Elsewhere as error:
                problem = str(error)
            finally:
                replica.in_flight -= 1
        raise NoAnswer(problem)

    def _choose(self, adapter: str, tried: Sequence[Replica]) -> Replica | None:
        now = self._clock()
        able = [r for r in self.replicas if r not in tried and r.holds(adapter) and r.ready(now)]
        return min(able, key=lambda replica: replica.in_flight, default=None)

    async def _ask(self, replica: Replica, adapter: str, question: _Question) -> Answer:
        """One answer of one replica; what it does is counted for or against it."""
        start = self._clock()
        try:
            status, reply = await self._post(replica, question)
            if status == HTTPStatus.OK:
                answer = read_answer(_json(reply), 1000 * (self._clock() - start))
                replica.failures = 0
                return answer
        except (OSError, NonsenseReply) as error:
            replica.failed(self._clock())
            words = str(error) if isinstance(error, NonsenseReply) else type(error).__name__
            raise _Elsewhere(f"the student's server gave no answer: {words:.200}") from error
        words = reply[:300].decode("utf-8", errors="replace")
        if too_long(status, words):
            replica.failures = 0
            return Answer("", [], 0, 0, "too_long", 1000 * (self._clock() - start))
        if status == HTTPStatus.NOT_FOUND:
            replica.lacks.add(adapter)
            raise _Elsewhere(f"the student's server does not know {adapter}")
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            replica.failed(self._clock())
            raise _Elsewhere(f"the student's server said HTTP {status}")
        raise NoAnswer(f"the student's server said HTTP {status}: {words:.200}")

    async def _post(self, replica: Replica, question: _Question) -> tuple[int, bytes]:
        path, ask = "/v1/chat/completions", self._send
        try:
            return await ask(replica, "POST", path, question.headers, question.body)
        except Stale:
            return await ask(replica, "POST", path, question.headers, question.body, fresh=True)

    async def _send(
        self,
        replica: Replica,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes | None = None,
        *,
        fresh: bool = False,
    ) -> tuple[int, bytes]:
        origin = origin_of(replica.url)
        head = request_head(origin, method, path, headers, body)
        reply = await self._pool.send(origin, head, body or b"", fresh=fresh)
        try:
            reply.unpack()
            return reply.status, await _whole(reply)
        finally:
            reply.close()

    async def look(self) -> None:
        """See which adapters each replica holds; one that does not say is believed as before."""
        await asyncio.gather(*(self._look_at(replica) for replica in self.replicas))

    async def _look_at(self, replica: Replica) -> None:
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                _, body = await self._send(replica, "GET", "/v1/models", self._headers)
                cards = _json(body)["data"]
                replica.held = frozenset(str(card["id"]) for card in cards)
        except (OSError, NonsenseReply, KeyError, TypeError, ValueError):
            self.outcomes["not seen"] += 1
            return
        replica.lacks.clear()

    async def watch(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)


def _bytes(question: dict[str, Any]) -> bytes:
    """JSON of any messages that came as JSON: half a surrogate pair is none to orjson."""
    try:
        return orjson.dumps(question)
    except TypeError:
        return json.dumps(question).encode()


async def _whole(reply: Exchange) -> bytes:
    """The body, or an error as soon as it is longer than any answer."""
    parts, size = [], 0
    async for part in reply:
        size += len(part)
        if size > MAX_BYTES:
            raise NonsenseReply(f"it is longer than {MAX_BYTES // 1024**2} MiB")
        parts.append(part)
    return b"".join(parts)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NonsenseReply(f"no JSON came back: {body[:80]!r}") from None
