"""Errors of the gateway itself, in the shape of the format that the client speaks.

Not here: the frontier's errors, which pass unchanged.
"""

from __future__ import annotations

import logging
import traceback
from types import ModuleType

import aiohttp

from loop_pipeline.gateway.access.access import Denied
from loop_pipeline.gateway.access.limits import OverLimit, Unpriced
from loop_pipeline.gateway.frontier.forward import Unreachable
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import JSON, MOST_BODY, BodyTooLong, Send, send_whole

# Of what nobody expected.
INTERNAL = "loop_internal"

_log = logging.getLogger(__name__)


class Problem(Exception):
    """Why the gateway does not answer; the client is told so."""

    def __init__(
        self,
        status: int,
        code: str,
        said: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(said)
        self.status, self.code = status, code
        self.param, self.retry_after = param, retry_after


def problem_of(error: Exception) -> Problem:
    """The same as a problem; of what nobody expected, nothing is told but that it happened."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Denied):
        return Problem(error.status, error.code, f"{error}", retry_after=error.retry_after)
    if isinstance(error, OverLimit):
        return Problem(429, "loop_limit", f"{error}", retry_after=error.retry_after)
    if isinstance(error, Unpriced):
        return Problem(403, "loop_unpriced_model", f"{error}", param="model")
    if isinstance(error, Unreachable):
        return Problem(error.status, error.code, f"{error}")
    if isinstance(error, aiohttp.ClientError | OSError):
        said = f"the frontier's answer broke off ({type(error).__name__})"
        return Problem(502, "loop_frontier_broken", said)
    if isinstance(error, BodyTooLong):
        said = f"the body is longer than {MOST_BODY // 2**20} MiB"
        return Problem(413, "loop_body_too_long", said)
    log_fault(error)
    return Problem(500, INTERNAL, "the gateway failed; its log says where")


def log_fault(error: Exception) -> None:
    """Log where it happened, not what it said: that may repeat a part of a request."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s in the gateway, at\n%s", type(error).__name__, where)


async def send_problem(send: Send, problem: Problem, shape: ModuleType) -> None:
    """Answer with it."""
    (counters.unanswered if problem.status >= 500 else counters.refused).labels(problem.code).inc()
    headers = [JSON]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(problem.retry_after).encode()))
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="loop"'))
    body = shape.error_body(problem.status, f"{problem}", problem.code, problem.param)
    await send_whole(send, problem.status, headers, body)
