"""A server that says byte for byte what a test wants, or nothing at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from typing import Any


class RawServer:
    """Runs a script for every request: it gets the connection and the request's body."""

    def __init__(self, script: Callable[[socket.socket, Any], None]) -> None:
        self.script = script
        self.asked: list[Any] = []
        self.headers: list[dict[str, str]] = []
        """Of each request, with names in small letters."""
        self.ended = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        self.ended.set()
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (asked := _request(connection)) is not None:
                headers, body = asked
                self.headers.append(headers)
                self.asked.append(body)
                self.script(connection, body)

    def drip(self, data: bytes) -> Callable[[socket.socket, Any], None]:
        """A script that sends a byte, waits half a second, and so on, until `stop`."""

        def script(connection: socket.socket, _: Any) -> None:
            for at in range(len(data)):
                connection.sendall(data[at : at + 1])
                if self.ended.wait(0.1):
                    return

        return script


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole HTTP reply."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def saying(data: bytes) -> Callable[[socket.socket, Any], None]:
    """A script that always says the same."""
    return lambda connection, _: connection.sendall(data)


def _request(connection: socket.socket) -> tuple[dict[str, str], Any] | None:
    """Headers and body of the next request (its path, if it has none); None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    pairs = (line.partition(":") for line in head.decode().split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", 0))
    while len(body) < length:
        body += connection.recv(65536)
    return headers, json.loads(body) if body else head.split()[1].decode()
