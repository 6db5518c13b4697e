"""Passes on what is not captured: streamed both ways, read by nobody.

Not here: what is captured (``answering.py``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.frontier import header_rules
from loop_pipeline.gateway.frontier.forward import Opened
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import (
    ClientGone,
    Presence,
    Receive,
    Scope,
    Send,
    more,
    read_body,
    start,
)
from loop_pipeline.gateway.http.parts import FORMATS, Parts
from loop_pipeline.gateway.http.problems import Problem, problem_of, send_problem

# A body up to this is held, so that it can be sent again if a connection was dead.
HELD = 256 * 1024
# Some servers take `..` in whatever form, and our key goes with the request.
_CLIMBS = re.compile(r"(?:^|/|\\|%2f|%5c)(?:\.|%2e){2}(?:$|/|\\|%2f|%5c)", re.IGNORECASE)


class PassThrough:
    """ASGI endpoint of every other path under ``/v1/``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward, and answer with what comes."""
        shape = shape_of(scope)
        begun: list[bool] = []
        try:
            headers = dict(scope["headers"])
            caller = self._parts.access.caller(headers)
            caller.must("call")
            reserved = caller.limits.begin(0.0)
            try:
                body = await _body_of(headers, receive)
                await self.with_body(scope, receive, send, caller, body, begun)
            finally:
                caller.limits.end(reserved, 0.0)
        except ClientGone:
            counters.cancelled.inc()
        except Exception as error:  # noqa: BLE001  the client is told, whatever it was
            problem = problem_of(error)
            if begun:
                # What has begun is cut, so that nobody takes it as whole.
                raise problem from None
            await send_problem(send, problem, shape)

    async def with_body(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        caller: Caller,
        body: bytes | AsyncIterator[bytes] | None,
        begun: list[bool] | None = None,
    ) -> None:
        """Forward a request whose body is there, or comes in pieces.

        Args:
            scope: of the request.
            receive: of it.
            send: of it.
            caller: who asks.
            body: the bytes, or what gives them.
            begun: gets an element once an answer has begun.
        """
        if not isinstance(body, bytes | None):
            # Whether the client is there is seen from its body.
            await self._pass(scope, send, caller, body, None, begun)
            return
        with Presence(receive) as presence:
            await self._pass(scope, send, caller, body, presence, begun)

    async def _pass(
        self,
        scope: Scope,
        send: Send,
        caller: Caller,
        body: Any,
        presence: Presence | None,
        begun: list[bool] | None,
    ) -> None:
        opened = await open_path(self._parts, scope, caller, body)
        try:
            headers = header_rules.back(opened.response.raw_headers, decompressed=False)
            length = opened.response.headers.get(b"content-length")
            if length is not None:
                headers.append((b"content-length", length))
            if begun is not None:
                begun.append(True)
            await start(send, opened.status, headers)
            if opened.status >= 400:
                await _end(send, await opened.response.read(), presence)
                return
            async for chunk in opened.response:
                await more(send, chunk)
            await _end(send, b"", presence)
        finally:
            opened.close()


def shape_of(scope: Scope) -> ModuleType:
    """The format whose errors the client understands."""
    return FORMATS["messages" if is_anthropic(scope) else "chat"]


def is_anthropic(scope: Scope) -> bool:
    """Whether it is Anthropic's API that is spoken: by its path, or its clients' header."""
    if scope["path"].startswith("/v1/messages"):
        return True
    return any(name == b"anthropic-version" for name, _ in scope["headers"])


async def open_path(
    parts: Parts, scope: Scope, caller: Caller, body: Any, *, decompress: bool = False
) -> Opened:
    """Ask the frontier for the same path.

    Args:
        parts: of the worker.
        scope: of the request.
        caller: who asks.
        body: bytes, or what gives them.
        decompress: whether the answer is read here.

    Raises:
        Problem: the path leads out of its API.
        Unreachable: there is no answer.
    """
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    if not path.startswith("/v1/") or _CLIMBS.search(path):
        raise Problem(404, "loop_unknown_path", "there is no such path")
    query = scope["query_string"].decode("latin-1")
    anthropic = is_anthropic(scope)
    headers = header_rules.on(scope["headers"], keys=caller.own_key, encodings=not decompress)
    if not caller.own_key:
        headers += parts.vendor_key(anthropic=anthropic)
    return await parts.frontier.ask(
        parts.urls(anthropic=anthropic),
        path[3:] + (f"?{query}" if query else ""),
        headers,
        body,
        method=scope["method"],
        decompress=decompress,
    )


async def _body_of(
    headers: dict[bytes, bytes], receive: Receive
) -> bytes | AsyncIterator[bytes] | None:
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) <= HELD:
        return await read_body(receive, length) or None
    if not length and b"transfer-encoding" not in headers:
        return None
    return _pieces(receive)


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        if piece := message.get("body", b""):
            yield piece
        if not message.get("more_body"):
            return


async def _end(send: Send, body: bytes, presence: Presence | None) -> None:
    if presence is not None:
        presence.done()
    await more(send, body, last=True)
