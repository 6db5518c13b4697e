"""Keeps what went out, and what else was answered, as rows of the capture.

Not here: the row itself (``trace_row.py``), and the files (``capture.py``).
"""

from __future__ import annotations

import time
from typing import Any

from loop_pipeline.gateway.access.limits import usd_of
from loop_pipeline.gateway.capture import CaptureLost
from loop_pipeline.gateway.cascade import Answered
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.call import Call
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.http.problems import Problem, log_fault
from loop_pipeline.gateway.trace_row import trace_row


async def keep(parts: Parts, call: Call, reply: Reply, *, producer: str, model: str) -> None:
    """Write the trace of what goes out, before its last byte does.

    Raises:
        Problem: it cannot be written, and nothing may go out without.
    """
    now = time.perf_counter()
    call.kept = True
    try:
        if producer == "frontier":
            call.usd = usd_of(call.model, reply.tokens_in, reply.tokens_cached, reply.tokens_out)
        if not call.captured or call.request is None:
            return
        row = trace_row(
            call.request,
            reply,
            prompt_id=call.prompt_id,
            latency_ms=_ms(now - call.began),
            first_byte_ms=_ms((call.first_byte or now) - call.began),
            route=call.route | {"overhead_ms": call.overhead_ms()},
            producer=producer,
            model=model,
            **_of(parts, call),
        )
        parts.capture.write(row)
        if not parts.config.capture_sync_ms:
            await parts.capture.synced()
    except CaptureLost:
        counters.capture_lost.inc()
    except Exception as error:  # noqa: BLE001  a fault of ours costs the trace, not the answer
        log_fault(error)
        counters.capture_lost.inc()
    else:
        return
    if parts.config.capture == "required":
        said = "no trace can be written, and none may be missing"
        raise Problem(503, "loop_capture_unavailable", said)


def keep_beside(parts: Parts, call: Call, answered: Answered) -> None:
    """Write the trace of an answer that did not go out."""
    if not call.captured or call.request is None:
        return
    try:
        row = trace_row(
            call.request,
            answered.reply,
            prompt_id=answered.prompt_id,
            latency_ms=answered.latency_ms,
            first_byte_ms=None,
            route=answered.route,
            producer=answered.producer,
            model=answered.model,
            **_of(parts, call),
        )
        parts.capture.write(row)
    except CaptureLost:
        counters.capture_lost.inc()
    except Exception as error:  # noqa: BLE001  likewise
        log_fault(error)
        counters.capture_lost.inc()


def _of(parts: Parts, call: Call) -> dict[str, Any]:
    return {
        "ts": call.ts,
        "app": call.caller.app,
        "user_hash": call.user_hash,
        "task": call.task,
        "conversation_id": call.conversation_id,
        "retries": call.retries,
        "hide": parts.hide,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
