"""A scripted OpenAI-compatible upstream on a local port: good answers, and every way to go wrong.

It speaks HTTP by hand, byte by byte: what is tested is what happens when a server does not behave.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Headers = dict[str, str]


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: Headers
    body: bytes
    connection: int

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Script:
    """What is answered to one request.

    ``parts`` are sent one after another, ``pause`` seconds between them. ``first_after`` seconds
    pass before the head. ``end``: how the answer ends; ``"well"``, ``"cut"`` (closed in the middle
    of the body), ``"reset"``, or ``"hang"`` (open, and nothing more comes). ``silent``: no head at
    all, then ``end``. ``close``: the connection is closed after a good answer.
    """

    status: int = 200
    headers: Headers = field(default_factory=dict)
    parts: Sequence[bytes] = ()
    pause: float = 0.0
    first_after: float = 0.0
    end: str = "well"
    silent: bool = False
    close: bool = False


def completion(text: str = "delivery", **fields: Any) -> bytes:
    """A chat completion in one piece."""
    message = {"role": "assistant", "content": text, "refusal": None}
    return json.dumps(
        {
            "id": "chatcmpl-upstream1",
            "object": "chat.completion",
            "created": 1_790_000_000,
            "model": "gpt-5.5-2026-10-01",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24},
            **fields,
        }
    ).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    """One event of a streamed chat completion."""
    data = {
        "id": "chatcmpl-upstream1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-5.5-2026-10-01",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }
    return b"data: " + json.dumps(data).encode() + b"\n\n"


USAGE = {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24}
DONE = b"data: [DONE]\n\n"
EVENT_STREAM = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def events(*words: str, usage: bool = True) -> list[bytes]:
    """The events of a streamed chat completion that ends well."""
    found = [chunk({"role": "assistant", "content": ""})]
    found += [chunk({"content": word}) for word in words]
    found.append(chunk({}, "stop"))
    if usage:
        found.append(chunk({}, choices=[], usage=USAGE))
    return [*found, DONE]


def answer(text: str = "delivery", **fields: Any) -> Script:
    """A good answer in one piece."""
    return Script(headers=JSON, parts=[completion(text, **fields)])


def stream(*words: str, **script: Any) -> Script:
    """A good stream."""
    return Script(headers=EVENT_STREAM, parts=events(*words), **script)


def failure(status: int, **headers: str) -> Script:
    """An error in OpenAI's shape."""
    error = {"message": f"upstream says {status}", "type": "x", "param": None, "code": "x"}
    return Script(status, JSON | headers, [json.dumps({"error": error}).encode()])


def usual(asked: Asked) -> Script:
    """What a good server answers to what it is asked."""
    if asked.path.startswith("/v1/models"):
        listed = {"object": "list", "data": [{"id": "gpt-5.5", "object": "model"}]}
        return Script(headers=JSON, parts=[json.dumps(listed).encode()])
    if asked.path.startswith("/v1/chat/completions") and asked.json().get("stream"):
        wanted = (asked.json().get("stream_options") or {}).get("include_usage")
        return Script(headers=EVENT_STREAM, parts=events("deli", "very", usage=bool(wanted)))
    return answer()


def listener(port: int = 0) -> socket.socket:
    """A listening socket. Only if it says that it is TCP, asyncio sends small pieces at once."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen(1024)
    return made


class Upstream:
    """The server, in a thread of its own. ``scripts`` are used up one a request, then ``usual``."""

    def __init__(self, usual: Callable[[Asked], Script] = usual, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.scripts: deque[Script] = deque()
        self.usual = usual
        self.open = 0
        """Connections that are open now."""
        self.answering = 0
        """Requests that are being answered now."""
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._listener = listener(port)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """With ``/v1``, as LOOP_FRONTIER_URLS takes it."""
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *scripts: Script) -> None:
        """Answer the next requests so."""
        self.scripts.extend(scripts)

    def stop(self) -> None:
        """Close everything; once more changes nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._listener, limit=2**26)
        await self._stopping.wait()
        server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self.open += 1
        number = self._connections
        try:
            while (asked := await _read(reader, number)) is not None:
                self.asked.append(asked)
                script = self.scripts.popleft() if self.scripts else self.usual(asked)
                self.answering += 1
                try:
                    if not await _play(script, reader, writer):
                        return
                finally:
                    self.answering -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader, number: int) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers: Headers = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body, number)


async def _play(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer. Returns whether the connection can be used again."""
    if script.first_after and await _left(reader, script.first_after):
        return False
    if not script.silent:
        await _send(script, reader, writer)
    if script.end == "hang":
        await _left(reader, 3600)
        return False
    if script.end == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return False
    return script.end == "well" and not script.silent and not script.close


async def _send(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    streamed = "event-stream" in script.headers.get("content-type", "")
    headers = dict(script.headers)
    if streamed or script.end != "well" or len(script.parts) > 1:
        headers["transfer-encoding"] = "chunked"
    else:
        headers["content-length"] = str(sum(map(len, script.parts)))
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {script.status} X", *lines, "", ""])
    writer.write(head.encode("latin-1"))
    for number, part in enumerate(script.parts):
        if number and script.pause and await _left(reader, script.pause):
            raise ConnectionError
        framed = b"%x\r\n%b\r\n" % (len(part), part)
        writer.write(framed if "transfer-encoding" in headers else part)
        await writer.drain()
    if "transfer-encoding" in headers and script.end == "well":
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _left(reader: asyncio.StreamReader, seconds: float) -> bool:
    """Whether the client closed its side within so many seconds."""
    try:
        return not await asyncio.wait_for(reader.read(1), seconds)
    except TimeoutError:
        return False
