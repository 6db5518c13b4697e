"""Keeps what went out, and what else was answered, as rows of the capture.

Not here: the row itself (``trace_row.py``), and the files (``capture.py``).
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from typing import Any

from loop_pipeline.costs.prices import COUNTS
from loop_pipeline.costs.unpriced import unpriced_as, what_to_do
from loop_pipeline.gateway.capture import CaptureLost
from loop_pipeline.gateway.cascade import Answered
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.call import MOST_NAME, Call
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.http.problems import Problem, log_fault
from loop_pipeline.gateway.trace_row import trace_row

# Names of models that the log has named already.
MOST_SAID = 256

_log = logging.getLogger(__name__)


async def keep(parts: Parts, call: Call, reply: Reply, *, producer: str, model: str) -> None:
    """Write the trace of what goes out, before its last byte does.

    Raises:
        Problem: it cannot be written, and nothing may go out without.
    """
    now = time.perf_counter()
    call.kept = True
    try:
        usd = _usd(parts, call, reply, producer, call.model)
        call.usd = usd or 0.0
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
            cost_usd=usd,
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
            cost_usd=_usd(parts, call, answered.reply, answered.producer, answered.model),
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


def _usd(parts: Parts, call: Call, reply: Reply, producer: str, model: str) -> float | None:
    """What the frontier billed; None: unpriced, which is counted. A student bills no tokens."""
    if producer != "frontier":
        return None
    counts = {name: getattr(reply, name) for name in COUNTS}
    asked = {"model": model, "served_model": reply.model, "ts": call.ts, "producer": producer}
    row = asked | counts | {"service_tier": reply.service_tier}
    usd = parts.prices.usd(row)
    if name := unpriced_as(row | {"cost_usd": usd, "finish_reason": reply.finish_reason}):
        counters.unpriced.inc()
        _say_once(name)
    return usd


@lru_cache(maxsize=MOST_SAID)
def _say_once(model: str) -> None:
    """Whoever sends requests chooses names, so what is remembered is bounded."""
    _log.warning("loop: answers of %r are unpriced: %s", model[:MOST_NAME], what_to_do({model: 1}))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
