"""HTTP requests whose whole time and size are bounded, not only the wait for the next byte.

Not here: what is asked (``serving/student_server.py``). One session a thread, connections are kept.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from loop_pipeline.http_calls.http_safety import refuse_redirect

# A machine that is gone does not refuse a connection, it says nothing.
CONNECT_S = 5.0
# The longest answer with the log-probabilities of its tokens is far smaller.
MAX_BYTES = 32 * 1024**2
PIECE = 65_536


class TooLarge(requests.RequestException):
    """The reply does not end within ``MAX_BYTES``."""


@dataclass(frozen=True)
class HttpReply:
    """A reply that came whole."""

    status: int
    content_type: str
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the server did what it was asked."""
        return self.status < requests.codes.bad_request

    @property
    def text(self) -> str:
        """The body for people; what is no UTF-8 is shown as such."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body's JSON.

        Raises:
            ValueError: it is none.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("it is nested too deep") from None


class _Adapter(HTTPAdapter):
    """Knows the socket it uses, so that another thread can cut it off."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **more: Any) -> Any:
        """The pool of a server, whose connections tell their socket."""
        pool: Any = super().get_connection_with_tls_context(*args, **more)
        if not hasattr(pool.ConnectionCls, "noted"):
            pool.ConnectionCls = _noting(pool.ConnectionCls, self)
        return pool

    def cut(self) -> None:
        """End whatever is under way."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


def _noting(kind: Any, adapter: _Adapter) -> Any:
    class Noting(kind):
        noted = True

        def connect(self) -> None:
            super().connect()
            adapter.socket = self.sock

    return Noting


class BoundedHttp:
    """Asks servers, each thread over a session of its own. Safe to share between threads.

    Args:
        setting: that names them; a redirect is not followed, and whoever wants it has to set this.
    """

    def __init__(self, setting: str = "LOOP_VLLM_URL") -> None:
        self._setting = setting
        self._local = threading.local()

    def send(self, method: str, url: str, body: Any, seconds: float) -> HttpReply:
        """Ask once, and once more if a kept connection turned out to be closed.

        Args:
            method: of HTTP.
            url: whom and what.
            body: sent as JSON; None: nothing.
            seconds: all in all, from connecting to the last byte.

        Raises:
            requests.RequestException: no whole reply in time.
        """
        for last in (False, True):
            try:
                return self._once(method, url, body, seconds)
            except requests.ConnectionError as error:
                # A kept connection may have been closed meanwhile; everything asked is repeatable.
                self._local.session.close()
                del self._local.session
                if last or isinstance(error, requests.ConnectTimeout):
                    raise
        raise AssertionError("unreachable")

    def _once(self, method: str, url: str, body: Any, seconds: float) -> HttpReply:
        session, adapter = self._session()
        over = threading.Event()

        def end() -> None:
            over.set()
            adapter.cut()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            limits = (min(CONNECT_S, seconds), seconds)
            with session.request(
                method, url, json=body, timeout=limits, stream=True, allow_redirects=False
            ) as reply:
                refuse_redirect(reply, self._setting)
                content = _whole(reply)
        except (requests.RequestException, OSError) as error:
            if over.is_set():
                raise requests.ReadTimeout(f"no whole reply within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()
        if over.is_set():  # a body without a length just ends where it was cut
            raise requests.ReadTimeout(f"no whole reply within {seconds:g} s")
        return HttpReply(reply.status_code, reply.headers.get("content-type", ""), content)

    def _session(self) -> tuple[requests.Session, _Adapter]:
        if getattr(self._local, "session", None) is None:
            self._local.session, self._local.adapter = requests.Session(), _Adapter()
            self._local.session.trust_env = False  # one's own server needs no proxy
            for scheme in ("http://", "https://"):
                self._local.session.mount(scheme, self._local.adapter)
        return self._local.session, self._local.adapter


def _whole(reply: requests.Response) -> bytes:
    """The body, or an error as soon as it is longer than anything that is asked for."""
    parts, size = [], 0
    for part in reply.iter_content(PIECE):
        size += len(part)
        if size > MAX_BYTES:
            raise TooLarge(f"the reply is longer than {MAX_BYTES // 1024**2} MiB")
        parts.append(part)
    return b"".join(parts)
