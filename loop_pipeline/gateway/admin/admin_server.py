"""The server of the page: on a unix socket, in a thread of the gateway's parent process.

Not here: who may come in. The workers, who forward ``/`` and ``/page/*``, know the keys
(``http/page_proxy.py``); they say who it is in a header that no client can set.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loop_pipeline.gateway.admin.figures.page_fields import LiveNumbers
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.gateway.admin.page_feedback import BadFeedback, feedback_row

VIEWER = "x-loop-actor"
MOST_BYTES = 2 * 1024**2
FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "request.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
}
# Nothing but what this server gives, and no text of a trace can become a script.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Endpoint = Callable[[Request], Awaitable[Response]]


class _Pages:
    """What each address answers to a viewer who was let in."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    async def start(self, _: Request) -> Response:
        return _file("page.html", "text/html; charset=utf-8")

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _file(name, FILES[name]) if name in FILES else _said(404, f"no page {name}")

    async def numbers(self, request: Request) -> Response:
        found = await run_in_threadpool(self._view.numbers, viewer_of(request))
        return _answer(200, found.model_dump_json().encode())

    async def schema(self, _: Request) -> Response:
        return _answer(200, orjson.dumps(LiveNumbers.model_json_schema(mode="serialization")))

    async def one(self, request: Request) -> Response:
        prompt_id = request.path_params["prompt_id"]
        found = await run_in_threadpool(self._view.request, prompt_id)
        if found is None:
            return _said(404, f"no request {prompt_id} in the spool or the store")
        return _answer(200, orjson.dumps(found, default=str))

    async def feedback(self, request: Request) -> Response:
        try:
            row = feedback_row(await _body(request), viewer_of(request), dt.datetime.now(dt.UTC))
        except BadFeedback as error:
            return _said(400, str(error))
        await run_in_threadpool(self._view.note, row)
        return _answer(202, orjson.dumps(row))


def admin_app(view: LiveView) -> Starlette:
    """The page's addresses."""
    pages = _Pages(view)
    return Starlette(
        routes=[
            Route("/", _let_in(pages.start)),
            Route("/page/numbers.json", _let_in(pages.numbers)),
            Route("/page/numbers.schema.json", _let_in(pages.schema)),
            Route("/page/feedback", _let_in(pages.feedback), methods=["POST"]),
            Route("/page/requests/{prompt_id:path}", _let_in(pages.one)),
            Route("/page/{name}", _let_in(pages.file)),
        ]
    )


def viewer_of(request: Request) -> str:
    """The name of the key with which the viewer came."""
    return request.headers[VIEWER]


def _let_in(endpoint: Endpoint) -> Endpoint:
    async def checked(request: Request) -> Response:
        problem = _refused(request)
        return _said(403, problem) if problem else await endpoint(request)

    return checked


def _refused(request: Request) -> str | None:
    """Why a request gets nothing; None if it may go on."""
    headers = request.headers
    if not headers.get(VIEWER):
        return "this page is reached through the gateway, which knows who is looking"
    if request.method == "POST":
        # A form of a foreign page cannot send this, and its script is not let through either.
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return "feedback comes as application/json"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "feedback is taken from this page only"
    return None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise BadFeedback(f"feedback of more than {MOST_BYTES:,} bytes")
    return body


def _answer(status: int, body: bytes, kind: str = "application/json") -> Response:
    return Response(body, status, headers={"content-type": kind, **HEADERS})


def _said(status: int, problem: str) -> Response:
    return _answer(status, orjson.dumps({"error": {"message": problem, "code": "loop_page"}}))


def _file(name: str, kind: str) -> Response:
    return _answer(200, (Path(__file__).parent / "browser" / name).read_bytes(), kind)


class AdminServer:
    """Serves the page from a thread until it is stopped."""

    def __init__(self, socket: Path, view: LiveView) -> None:
        socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        socket.unlink(missing_ok=True)
        self._socket = socket
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "lifespan": "off"}
        self._server = uvicorn.Server(uvicorn.Config(admin_app(view), uds=str(socket), **options))
        self._thread = threading.Thread(target=self._server.run, name="page", daemon=True)

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return self._server.started

    def start(self) -> None:
        """Begin to serve; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, and take the socket away."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.unlink(missing_ok=True)
