"""``GET /v1/models``: the frontier's list and ``auto``; the last list if the frontier is down.

Not here: every other path (``pass_through.py``).
"""

from __future__ import annotations

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.frontier import header_rules
from loop_pipeline.gateway.frontier.frontier_body import AUTO
from loop_pipeline.gateway.http.asgi import (
    JSON,
    ClientGone,
    Headers,
    Presence,
    Receive,
    Scope,
    Send,
    send_whole,
)
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.http.pass_through import PassThrough, is_anthropic, open_path, shape_of
from loop_pipeline.gateway.http.problems import problem_of, send_problem

OURS = {"id": AUTO, "object": "model", "created": 0, "owned_by": "loop"}
DOWN = 500


class Models:
    """ASGI endpoint. Anthropic's list passes as it is: there ``auto`` is asked for by name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pass = PassThrough(parts)
        self._last: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the list."""
        if scope["method"] != "GET" or is_anthropic(scope):
            await self._pass(scope, receive, send)
            return
        try:
            caller = self._parts.access.caller(dict(scope["headers"]))
            caller.must("call")
            with Presence(receive) as presence:
                opened = await open_path(self._parts, scope, caller, None, decompress=True)
                body = await opened.response.read()
                headers = header_rules.back(opened.response.raw_headers, decompressed=True)
                presence.done()
            if opened.status >= DOWN and self._last is not None:
                await send_whole(send, 200, [JSON], self._last)
            else:
                await send_whole(send, opened.status, headers, self._with_ours(opened.status, body))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  the client is told, whatever it was
            problem = problem_of(error)
            if problem.status >= DOWN and self._last is not None:
                await send_whole(send, 200, [JSON], self._last)
            else:
                await send_problem(send, problem, shape_of(scope))

    def _with_ours(self, status: int, body: bytes) -> bytes:
        """The list with ``auto`` at its end; what is no list passes as it came."""
        listed = fields.load_reply(body) if status < 300 else {}
        if not isinstance(listed.get("data"), list):
            return body
        self._last = orjson.dumps(listed | {"data": [*listed["data"], OURS]})
        return self._last


async def send_ours(_scope: Scope, _receive: Receive, send: Send) -> None:
    """``GET /v1/models/auto``."""
    headers: Headers = [JSON]
    await send_whole(send, 200, headers, orjson.dumps(OURS))
