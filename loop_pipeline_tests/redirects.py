"""A server that sends every request on to another, and the other one, which notes what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Elsewhere(ThreadingHTTPServer):
    """Two places at one port: ``/there`` notes what came, everything else sends on to it."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.received: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        """Of the server that sends on."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    server: Elsewhere  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/there"):
            self.server.received.append((self.headers.get("authorization") or "", body))
            self.send_response(200)
        else:
            self.send_response(self.server.status)
            self.send_header("location", f"http://localhost:{self.server.server_port}/there")
        self.send_header("content-length", "0")
        self.end_headers()

    do_POST = do_PATCH = do_GET  # noqa: N815


@contextmanager
def elsewhere(status: int = 307) -> Iterator[Elsewhere]:
    """Both places while the block runs."""
    server = Elsewhere(status)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
