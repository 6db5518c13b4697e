"""``POST /v1/feedback``: what people did with answers, into the spool, before or after its trace.

Not here: what feedback may say (``traces/records.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import ValidationError

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.capture import CaptureLost
from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import (
    JSON,
    ClientGone,
    Receive,
    Scope,
    Send,
    read_body,
    send_whole,
)
from loop_pipeline.gateway.http.parts import FORMATS, Parts
from loop_pipeline.gateway.http.problems import Problem, problem_of, send_problem
from loop_pipeline.traces.records import Feedback

# Of one request.
MOST = 10_000


class FeedbackIn:
    """ASGI endpoint: one object or a list of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 once it is in the spool; of a list all are, or none."""
        try:
            if scope["method"] != "POST":
                raise Problem(405, "loop_method", "feedback is handed in by POST")
            headers = dict(scope["headers"])
            caller = self._parts.access.caller(headers)
            caller.must("feedback")
            body = await read_body(receive, headers.get(b"content-length"))
            rows = read_feedback(body, caller)
            await spool(self._parts, rows)
            counters.feedback.inc(len(rows))
            await send_whole(send, 202, [JSON], b'{"accepted":%d}' % len(rows))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  the client is told, whatever it was
            await send_problem(send, problem_of(error), FORMATS["chat"])


def read_feedback(body: bytes, caller: Caller) -> list[dict[str, Any]]:
    """Rows for the spool.

    Raises:
        Problem: a piece is wrong; names its field.
    """
    try:
        value, _ = fields.load(body)
    except ValueError as error:
        raise Problem(400, "loop_bad_feedback", f"the body is not JSON: {error}") from None
    listed = isinstance(value, list)
    items = value if listed else [value]
    if not items or len(items) > MOST:
        raise Problem(400, "loop_bad_feedback", f"hand in 1 to {MOST} pieces at once")
    now = dt.datetime.now(dt.UTC).isoformat()
    return [_row(item, now, caller, f"[{n}]." if listed else "") for n, item in enumerate(items)]


def _row(item: Any, now: str, caller: Caller, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise Problem(400, "loop_bad_feedback", f"{where or 'the body '}is no JSON object")
    if item.get("kind") == "review":
        said = "a review is handed in as a sheet or at the review desk, by people who review"
        raise Problem(400, "loop_bad_feedback", f"{where}kind: {said}", param=f"{where}kind")
    # `chatcmpl-…`, `resp_…` and `msg_…` find their trace when it is imported.
    given = item | {"app": caller.fence}
    if item.get("ts") is None:
        given["ts"] = now
    try:
        return Feedback.model_validate(given).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "kind"
        said = f"{where}{field}: {first['msg']}"
        raise Problem(400, "loop_bad_feedback", said, param=f"{where}{field}") from None


async def spool(parts: Parts, rows: list[dict[str, Any]]) -> None:
    """Write rows into the spool.

    Raises:
        Problem: they cannot be written; those who hand in try again.
    """
    try:
        for row in rows:
            parts.capture.write(row)
        if not parts.config.capture_sync_ms:
            await parts.capture.synced()
    except CaptureLost:
        counters.capture_lost.inc()
        raise Problem(
            503, "loop_capture_unavailable", "nothing can be written now", retry_after=5
        ) from None
