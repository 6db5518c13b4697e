"""What is handed in afterwards goes into the spool: one endpoint, whatever kind it is.

Not here: what each kind looks like (``feedback_in.py``, ``litellm_in.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.capture import CaptureLost
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
from loop_pipeline.gateway.trace_row import hidden_row


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for the spool; ``passed_over`` counts what can be none, where that is no mistake."""

    rows: list[dict[str, Any]]
    passed_over: int | None = None


Read = Callable[[bytes, Caller, bytes], Batch]


class HandedIn:
    """ASGI endpoint of one kind."""

    def __init__(self, parts: Parts, role: str, read: Read) -> None:
        """Take what makes the difference.

        Args:
            parts: of the worker.
            role: that a key needs.
            read: gives the rows of a body; it gets the caller and the secret of the installation.
        """
        self._parts, self._role, self._read = parts, role, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """202 once all rows are in the spool."""
        try:
            if scope["method"] != "POST":
                raise Problem(405, "loop_method", "this is handed in by POST")
            headers = dict(scope["headers"])
            caller = self._parts.access.caller(headers)
            caller.must(self._role)
            body = await read_body(receive, headers.get(b"content-length"))
            batch = self._read(body, caller, self._parts.secrets.installation.encode())
            await self._spool(batch.rows)
            await send_whole(send, 202, [JSON], _told(batch))
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  the client is told, whatever it was
            await send_problem(send, problem_of(error), FORMATS["chat"])

    async def _spool(self, rows: list[dict[str, Any]]) -> None:
        """Write them down.

        Raises:
            Problem: they cannot be written; those who hand in try again.
        """
        parts = self._parts
        try:
            for row in rows:
                parts.capture.write(hidden_row(row, parts.hide))
            if not parts.config.capture_sync_ms:
                await parts.capture.synced()
        except CaptureLost:
            counters.capture_lost.inc()
            raise Problem(
                503, "loop_capture_unavailable", "nothing can be written now", retry_after=5
            ) from None
        if self._role == "feedback":
            counters.feedback.inc(len(rows))


def _told(batch: Batch) -> bytes:
    if batch.passed_over is None:
        return b'{"accepted":%d}' % len(batch.rows)
    return b'{"accepted":%d,"passed_over":%d}' % (len(batch.rows), batch.passed_over)
