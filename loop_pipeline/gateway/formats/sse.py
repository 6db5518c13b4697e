"""Server-sent events: cutting a stream into whole events, reading one, writing one.

Not here: what an event means (``chat_stream.py`` and its like).
"""

from __future__ import annotations

import re

import orjson

# Sent while the frontier is silent. One line: an empty line after it makes an event without data,
# on which Python clients crash if the stream ever had an ``id:``.
KEEP_ALIVE = b": keep-alive\n"

DONE = b"data: [DONE]\n\n"

_END = re.compile(rb"\n\r?\n")

_LINE_END = re.compile(rb"\r?\n")


class Events:
    """Cuts a stream of bytes into whole events, wherever the chunks were cut.

    Lines end with LF or CRLF. The events' bytes, joined, are the bytes that were fed.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are whole now, each with the empty line that ends it."""
        rest = self._rest
        rest += chunk
        found: list[bytes] = []
        start = 0
        # An end may have begun in bytes seen before: at most the last two of them.
        look = max(0, self._seen - 2)
        while match := _END.search(rest, look):
            found.append(bytes(rest[start : match.end()]))
            start = look = match.end()
        del rest[:start]
        self._seen = len(rest)
        return found

    @property
    def waiting(self) -> int:
        """How many bytes wait for the end of their event."""
        return self._seen

    def rest(self) -> bytes:
        """What came after the last whole event; servers may leave out the last empty line."""
        left = bytes(self._rest)
        self._rest.clear()
        self._seen = 0
        return left


def without_data(event: bytes) -> bytes:
    """What may be passed on of an event that has no data: a comment, but no empty ``data:``.

    That says nothing, and Python clients crash on it.
    """
    return b"" if b"data:" in event else event


def data_of(event: bytes) -> bytes:
    """The data of one event, its lines joined; empty for a comment."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2].removesuffix(b"\r")
    lines = [line[5:] for line in _LINE_END.split(event) if line.startswith(b"data:")]
    return b"\n".join(line[1:] if line.startswith(b" ") else line for line in lines)


def event_of(data: object, name: str | None = None) -> bytes:
    """One event of JSON data, with its name if the format names events."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + orjson.dumps(data) + b"\n\n"
