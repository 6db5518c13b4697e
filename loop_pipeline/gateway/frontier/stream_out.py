"""A stream to the client: its head goes with the first event, comments while nothing comes.

Not here: what is in the events (``formats``), and where they come from (``streaming.py``).
"""

from __future__ import annotations

import asyncio
import math
import time

from loop_pipeline.gateway.formats.sse import KEEP_ALIVE
from loop_pipeline.gateway.frontier.forward import Opened
from loop_pipeline.gateway.http.asgi import Headers, Presence, Send, more, start
from loop_pipeline.gateway.http.call import Call

# Of silence before the client is told that the connection lives; proxies cut at 30 or 60 s.
SILENCE_S = 20.0
# Between two events of a stream that has begun.
GAP_S = 60.0

EVENTS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


class StreamOut:
    """One answer as a stream of whole events.

    ``headers`` may be set until the stream has ``started``: by the first event, or by silence, and
    then its status is 200 whatever comes.
    """

    def __init__(self, send: Send, presence: Presence, call: Call) -> None:
        self._send, self._presence, self._call = send, presence, call
        self._loop = asyncio.get_running_loop()
        self._quiet_since = self._beat_at = self._loop.time()
        self._upstream: Opened | None = None
        self._beating: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(SILENCE_S, self._look)
        self.headers = EVENTS
        self.started = self.cut = False

    def listen(self, upstream: Opened) -> None:
        """From now on this upstream is waited for, and cut off if it is silent for too long."""
        self._upstream = upstream
        self.wait()
        self._timer.cancel()
        self._timer = self._loop.call_later(min(SILENCE_S, GAP_S), self._look)

    def wait(self) -> None:
        """The upstream is waited for."""
        self._quiet_since = self._loop.time()

    def heard(self) -> None:
        """The upstream has said something; what follows is the client's time."""
        self._quiet_since = math.inf

    async def write(self, data: bytes) -> None:
        """Send whole events."""
        call = self._call
        if call.first_byte is None:
            call.first_byte = time.perf_counter()
        self._beat_at = self._loop.time()
        if not self.started:
            self.started = True
            await start(self._send, 200, self.headers)
        await more(self._send, data)

    async def finish(self, data: bytes) -> None:
        """Send the last bytes."""
        call = self._call
        if call.first_byte is None:
            call.first_byte = time.perf_counter()
        self._presence.done()
        self.close()
        if not self.started:
            self.started = True
            await start(self._send, 200, self.headers)
        await more(self._send, data, last=True)

    def close(self) -> None:
        """No more comments."""
        self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        quiet = now - max(self._quiet_since, self._beat_at)
        gap = now - self._quiet_since
        if self._upstream is not None and gap >= GAP_S:
            self.cut = True
            self._upstream.close()
            return
        if self._quiet_since < math.inf and quiet >= SILENCE_S:
            self._beat_at, quiet = now, 0.0
            self._beating = self._loop.create_task(self._beat())
        left = SILENCE_S - quiet if self._quiet_since < math.inf else SILENCE_S
        if self._upstream is not None and self._quiet_since < math.inf:
            left = min(left, GAP_S - gap)
        self._timer = self._loop.call_later(max(left, 0.001), self._look)

    async def _beat(self) -> None:
        if not self.started:
            self.started = True
            await start(self._send, 200, self.headers)
        await more(self._send, KEEP_ALIVE)
