"""The routes of a worker.

Not here: what answers them (``http``, ``intake``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.routing import Route, Router

from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.answering import Answering
from loop_pipeline.gateway.http.asgi import Receive, Scope, Send
from loop_pipeline.gateway.http.health import Ready, send_live
from loop_pipeline.gateway.http.models import Models, send_ours
from loop_pipeline.gateway.http.page_proxy import PageProxy
from loop_pipeline.gateway.http.parts import FORMATS, Parts
from loop_pipeline.gateway.http.pass_through import PassThrough
from loop_pipeline.gateway.http.problems import Problem, send_problem
from loop_pipeline.gateway.intake.feedback_in import read_feedback
from loop_pipeline.gateway.intake.handed_in import HandedIn
from loop_pipeline.gateway.intake.litellm_in import read_litellm


class Endpoint:
    """A function as an ASGI endpoint: Starlette takes bare functions for something else."""

    def __init__(self, answer: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._answer(scope, receive, send)


class Metrics:
    """ASGI endpoint of ``/metrics``: what others count is read when it is asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        counters.dropped.set(self._parts.capture.dropped)
        counters.backlog.set(self._parts.capture.backlog)
        counters.shadows_lost.set(self._parts.cascade.shadows_lost_why.total())
        await counters.send_exposition(scope, receive, send)


async def _unknown(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    problem = Problem(404, "loop_unknown_path", "there is no such path")
    await send_problem(send, problem, FORMATS["chat"])


class Exact:
    """A router that finds what is captured by its name: these are the busiest paths by far."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._captured = {
            route.path: route.endpoint
            for route in router.routes
            if isinstance(route, Route) and isinstance(route.endpoint, Answering)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        captured = self._captured.get(scope["path"]) if scope["type"] == "http" else None
        await (captured or self._router)(scope, receive, send)


def make_app(parts: Parts) -> Router:
    """The routes, the busiest first. ``Router`` alone: no middleware stands before an endpoint."""
    page = PageProxy(parts)
    return Router(
        [
            Route("/v1/chat/completions", Answering(parts, "chat")),
            Route("/v1/messages", Answering(parts, "messages")),
            Route("/v1/responses", Answering(parts, "responses")),
            Route("/v1/completions", Answering(parts, "completions")),
            Route("/v1/feedback", HandedIn(parts, "feedback", read_feedback)),
            Route("/v1/ingest/litellm", HandedIn(parts, "ingest", read_litellm)),
            Route("/v1/models", Models(parts)),
            Route("/v1/models/auto", Endpoint(send_ours)),
            Route("/v1/{path:path}", PassThrough(parts)),
            Route("/health/live", Endpoint(send_live)),
            Route("/health/ready", Ready(parts)),
            Route("/metrics", Metrics(parts)),
            Route("/", page),
            Route("/page/{path:path}", page),
        ],
        redirect_slashes=False,
        default=_unknown,
    )
