"""The frontier's answer to one captured request, in one piece or as a stream.

Not here: whether it is asked at all (``answering.py``).
"""

from __future__ import annotations

import time
from types import ModuleType

from loop_pipeline.gateway.formats.chat_answers import with_id
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.frontier import header_rules
from loop_pipeline.gateway.frontier.forward import Opened, Unreachable, read_answer
from loop_pipeline.gateway.frontier.frontier_body import for_frontier, in_one_piece
from loop_pipeline.gateway.frontier.stream_out import StreamOut
from loop_pipeline.gateway.frontier.streaming import Passing
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import Headers, Presence, Send, more, send_whole, start
from loop_pipeline.gateway.http.call import Call
from loop_pipeline.gateway.http.keeping import keep
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.http.problems import log_fault

# For the last packet of a stream whose answer has gone out.
END_S = 0.25
PATHS = {
    "chat": "/chat/completions",
    "messages": "/messages",
    "responses": "/responses",
    "completions": "/completions",
}


class FromFrontier:
    """One request that goes to the frontier."""

    def __init__(
        self, parts: Parts, call: Call, shape: ModuleType, told: Headers, query: bytes
    ) -> None:
        """Take what is known; nothing is sent.

        Args:
            parts: of the worker.
            call: the request, which has been read.
            shape: of its format.
            told: our headers of the answer.
            query: of its URL.
        """
        assert call.request is not None
        self._parts, self._call, self._shape, self._told = parts, call, shape, told
        self._request = call.request
        self._anthropic = self._request.wire == "messages"
        self._path = PATHS[self._request.wire] + (f"?{query.decode('latin-1')}" if query else "")
        self._passing: Passing | None = None

    def said(self) -> Reply:
        """What the answer said so far, for a client that left."""
        return self._passing.said() if self._passing is not None else Reply()

    async def answer(self, send: Send, presence: Presence) -> None:
        """Ask, and pass the answer on.

        Raises:
            Unreachable: there is none, and nothing was sent.
            Problem: its trace cannot be written, and nothing was sent.
        """
        out = StreamOut(send, presence, self._call) if self._request.stream else None
        try:
            opened = await self._ask()
            if opened.streamed and out is None:
                out = StreamOut(send, presence, self._call)
            try:
                await self._pass(opened, send, presence, out)
            except BaseException:
                # Whoever stops in the middle leaves: the upstream notices and stops too.
                opened.close()
                raise
            await opened.response.settle(END_S)
        except Unreachable as error:
            if out is None or not out.started:
                raise
            counters.unanswered.labels(error.code).inc()
            await out.finish(self._shape.error_event(error.status, f"{error}", error.code))
        finally:
            if out is not None:
                out.close()

    async def _pass(
        self, opened: Opened, send: Send, presence: Presence, out: StreamOut | None
    ) -> None:
        if out is None or not (opened.streamed or out.started):
            await self._whole(opened, send, presence)
        elif opened.streamed:
            await self._stream(opened, out)
        else:
            await self._too_late(opened, out)

    async def _ask(self) -> Opened:
        parts, call = self._parts, self._call
        body = for_frontier(call.body, self._request, call.model)
        began = time.perf_counter()
        try:
            opened = await self._send_on(body)
        finally:
            call.elsewhere += time.perf_counter() - began
        if opened.attempts > 1:
            counters.upstream_retries.inc(opened.attempts - 1)
            call.route["attempts"] = opened.attempts
        call.status = opened.status
        if opened.status < 300:
            parts.access.vouch(call.caller)
        return opened

    async def _send_on(self, body: bytes) -> Opened:
        parts, caller = self._parts, self._call.caller
        headers = header_rules.on(self._call.given, keys=caller.own_key, encodings=False)
        if not caller.own_key:
            headers += parts.vendor_key(anthropic=self._anthropic)
        urls = parts.urls(anthropic=self._anthropic)
        return await parts.frontier.ask(urls, self._path, headers, body)

    async def _stream(self, opened: Opened, out: StreamOut) -> None:
        call = self._call
        call.answered()
        if not out.started:
            # The upstream's own word for it: `text/event-stream; charset=utf-8`, or without.
            out.headers = self._back(opened) + self._told_now()
        self._passing = Passing(self._parts, call, self._shape, out)
        await self._passing.run(opened)

    async def _whole(self, opened: Opened, send: Send, presence: Presence) -> None:
        call = self._call
        began = time.perf_counter()
        body, all_of_it = await read_answer(opened)
        call.elsewhere += time.perf_counter() - began
        call.answered()
        headers = self._back(opened)
        if not all_of_it:
            counters.unread.labels(self._request.wire).inc()
            await _pass_on(opened, send, headers + self._told_now(), body)
            presence.done()
            return
        if opened.status < 300:
            body = await self._kept(body)
        presence.done()
        await send_whole(send, opened.status, headers + self._told_now(), body)

    async def _kept(self, body: bytes) -> bytes:
        """Keep what an answer says. Returns it under the id that feedback needs."""
        call = self._call
        try:
            reply = self._shape.read_reply(body)
        except Exception as error:  # noqa: BLE001  a fault of ours costs the trace, not the answer
            log_fault(error)
            counters.unread.labels(self._request.wire).inc()
            return body
        await keep(self._parts, call, reply, producer="frontier", model=call.model)
        if self._request.wire == "chat" and call.captured and not self._request.stored:
            return with_id(body, reply.response_id, call.prompt_id)
        return body

    async def _too_late(self, opened: Opened, out: StreamOut) -> None:
        """No stream, after silence has committed a status of 200."""
        await read_answer(opened)
        said = f"the frontier answered with status {opened.status}"
        await out.finish(self._shape.error_event(opened.status, said, "loop_frontier_refused"))

    async def ask_beside(self) -> Reply:
        """Its answer for the record only, in one piece.

        Raises:
            Unreachable: there is none.
        """
        call = self._call
        opened = await self._send_on(in_one_piece(call.body, self._request, call.model))
        try:
            body, _ = await read_answer(opened)
        finally:
            await opened.response.settle(END_S)
        if opened.status >= 300:
            said = f"the frontier answered with status {opened.status}"
            raise Unreachable(said, code="loop_frontier_refused", status=opened.status)
        return self._shape.read_reply(body)

    def _back(self, opened: Opened) -> Headers:
        return header_rules.back(opened.response.raw_headers, decompressed=True)

    def _told_now(self) -> Headers:
        # What the gateway took is known only now.
        return [*self._told, (b"x-loop-overhead-ms", b"%.3f" % self._call.overhead_ms())]


async def _pass_on(opened: Opened, send: Send, headers: Headers, begun: bytes) -> None:
    """An answer that is too long to be held: as it comes."""
    await start(send, opened.status, headers)
    await more(send, begun)
    async for chunk in opened.response:
        await more(send, chunk)
    await more(send, b"", last=True)
