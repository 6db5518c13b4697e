"""Bodies in, answers out, and whether the client is still there: ASGI without a framework.

Not here: what a request means (``call.py``), and streams (``stream_out.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# A longer body is not read: OpenAI's own limit for a request with images is near it.
MOST_BODY = 32 * 1024**2
# What takes no longer is not watched for a client that leaves: a task each costs more than that.
UNWATCHED_S = 0.02
JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class BodyTooLong(Exception):
    """The body is longer than is read."""


class Presence:
    """Ends what is done inside ``with`` as soon as the client leaves, by ``ClientGone``.

    That is looked for after ``UNWATCHED_S``. The body has to be read before. ``done`` is called
    before the last byte is sent: from then on there is nothing to end.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._over = self._gone = False

    def __enter__(self) -> Presence:
        self._work = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self._begin = asyncio.get_running_loop().call_later(UNWATCHED_S, self._look)
        return self

    def _look(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over and self._work is not None:
            self._gone = True
            self._work.cancel()

    def done(self) -> None:
        """The answer is complete but for its last bytes."""
        self._over = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._begin.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._gone and self._work is not None:
            self._work.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientGone from None


async def read_body(receive: Receive, declared: bytes | None) -> bytes:
    """The whole body.

    Args:
        receive: of the request.
        declared: its content-length, if there is one.

    Raises:
        BodyTooLong: it is longer than ``MOST_BODY``, or says so.
        ClientGone: the client left before it was whole.
    """
    if declared and declared.isdigit() and int(declared) > MOST_BODY:
        raise BodyTooLong
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body = message.get("body", b"")
        if len(body) > MOST_BODY:
            raise BodyTooLong
        return body
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY:
            raise BodyTooLong
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ClientGone


async def send_whole(
    send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes
) -> None:
    """An answer in one piece."""
    length = (b"content-length", str(len(body)).encode())
    # What has no body must not say how long it is.
    given = [*headers, length] if status not in (204, 304) else [*headers]
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, status: int, headers: Headers) -> None:
    """The head of an answer whose length is not known."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def more(send: Send, body: bytes, *, last: bool = False) -> None:
    """The next bytes of it."""
    await send({"type": "http.response.body", "body": body, "more_body": not last})


def ascii_value(text: str, most: int = 300) -> bytes:
    """Any text as the value of a header: one line of printable ASCII."""
    if text.isascii() and text.isprintable():  # as nearly all are
        return text.strip()[:most].encode()
    line = " ".join(text.split())[:most]
    return bytes(c if 32 <= c < 127 else 63 for c in line.encode("ascii", "replace"))


class Sent:
    """A way to send that knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        self.started = True
        await self._send(message)
