"""Passes a stream of the frontier on, event by event, and keeps what it said.

Not here: comments and the gap between events (``stream_out.py``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from types import ModuleType

from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.formats.sse import Events
from loop_pipeline.gateway.frontier.forward import Opened, Unreachable
from loop_pipeline.gateway.frontier.stream_out import StreamOut
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.call import Call
from loop_pipeline.gateway.http.keeping import keep
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.http.problems import Problem, log_fault
from loop_pipeline.gateway.upstream.exchange_http import BadAnswer

# One event that is longer is no event.
MOST_EVENT = 16 * 1024**2
# Formats whose answers end with this event; in the others the reader's end is the last one.
DONE = b"[DONE]"
WITH_DONE = ("chat", "completions")


class Passing:
    """One stream on its way through."""

    def __init__(self, parts: Parts, call: Call, shape: ModuleType, out: StreamOut) -> None:
        self._parts, self._call, self._shape, self._out = parts, call, shape, out
        request = call.request
        assert request is not None
        self._with_done = request.wire in WITH_DONE
        self._reader = shape.StreamReader(request, call.prompt_id if call.captured else "")
        self._events = Events()
        self._held = b""
        self._unread = False

    def said(self) -> Reply:
        """The answer so far."""
        return self._reader.reply()

    async def run(self, opened: Opened) -> None:
        """Pass it on to its end.

        Raises:
            Unreachable: it broke off before anything was sent.
            Problem: its trace cannot be written, and nothing was sent.
        """
        out = self._out
        out.listen(opened)
        try:
            async for chunk in opened.response:
                out.heard()
                if await self._take(chunk):
                    break
                out.wait()
            else:
                await self._close()
        except OSError as error:
            why = "was silent for too long" if out.cut else f"broke off ({type(error).__name__})"
            await self._broken(f"the frontier's stream {why}")
        finally:
            out.close()

    def _read(self, event: bytes) -> bytes:
        """What of an event goes on; all of it if a fault of ours hinders us to read it."""
        try:
            return self._reader.take(event)
        except Exception as error:  # noqa: BLE001  it costs the trace, not the answer
            if not self._unread:
                log_fault(error)
            self._unread = True
            return event

    async def _take(self, chunk: bytes) -> bool:
        """Pass on what is whole of it. Returns whether that was all."""
        reader = self._reader
        found = self._events.feed(chunk)
        data = self._held + b"".join([self._read(event) for event in found])
        self._held = b""
        if not found:
            if self._events.waiting > MOST_EVENT:
                raise BadAnswer("an event without end")
            self._held = data
            return False
        if not reader.ended:
            if data:
                await self._out.write(data)
            return False
        if not self._with_done or DONE in found[-1][-20:]:
            await self._finish(data)
            return True
        # What follows is the usage, or the end: the last byte is not sent before the trace is kept.
        self._held = data
        return False

    async def _close(self) -> None:
        """The upstream closed: well, if the answer had ended."""
        if rest := self._events.rest():
            self._held += self._read(rest)
            # Servers leave out the last empty line; without it nobody sees the event.
            self._held += b"\n\n" if self._held else b""
        if self._reader.ended or self._unread:
            await self._finish(self._held)
        else:
            await self._broken("the frontier's stream ended before its end")

    async def _finish(self, data: bytes) -> None:
        reply = self._reader.reply()
        try:
            await keep(self._parts, self._call, reply, producer="frontier", model=self._call.model)
        except Problem as problem:
            if not self._out.started:
                raise
            event = self._shape.error_event(problem.status, f"{problem}", problem.code)
            await self._out.finish(event)
            return
        await self._out.finish(data)

    async def _broken(self, said: str) -> None:
        counters.broken.inc()
        if not self._out.started:
            raise Unreachable(said, code="loop_frontier_broken", status=502)
        reply = replace(self._reader.reply(), finish_reason="broken")
        with suppress(Problem):  # the client is told of the worse of the two
            await keep(self._parts, self._call, reply, producer="frontier", model=self._call.model)
        event = self._shape.error_event(502, said, "loop_frontier_broken")
        await self._out.finish(self._held + event)
