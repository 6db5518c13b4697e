"""What the gateway counts, for Prometheus.

Not here: what each answer did cost and took, which is in its trace.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from loop_pipeline.gateway.http.asgi import Receive, Scope, Send, send_whole

# Set by the parent before this is imported, if several workers count together.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

# When each began to be counted, a second series for every one of them.
disable_created_metrics()

requests = Counter(
    "loop_requests_total",
    "Answers by wire format, who gave them and status.",
    ["wire", "route", "status"],
)
seconds = Histogram(
    "loop_request_seconds", "From request to last byte.", ["route"], buckets=SECONDS
)
first_byte = Histogram(
    "loop_first_byte_seconds", "From request to first byte.", ["route"], buckets=SECONDS
)
overhead = Histogram(
    "loop_overhead_seconds", "What the gateway itself took, to the first byte.", buckets=OVERHEAD
)
in_flight = Gauge(
    "loop_requests_in_flight", "Requests that are being answered.", multiprocess_mode="livesum"
)
refused = Counter("loop_refused_total", "Requests refused by the gateway itself.", ["code"])
unanswered = Counter("loop_unanswered_total", "Requests that got no answer from anybody.", ["code"])
unread = Counter(
    "loop_unread_total", "Exchanges forwarded but not captured: they could not be read.", ["wire"]
)
unpriced = Counter(
    "loop_unpriced_total", "Answers of the frontier whose cost is not known: LOOP_PRICES_FILE."
)
cancelled = Counter("loop_cancelled_total", "Answers that the client did not wait for.")
broken = Counter("loop_broken_total", "Streams that ended before their end.")
upstream_retries = Counter(
    "loop_upstream_retries_total", "Asked again: on a fresh connection, or at another URL."
)
feedback = Counter("loop_feedback_total", "Pieces of feedback taken.")
capture_lost = Counter("loop_capture_lost_total", "Traces that could not be written down.")
# Set when they are asked for: their owners count for themselves.
dropped = Gauge(
    "loop_spool_dropped", "Lines dropped as the spool was full.", multiprocess_mode="livesum"
)
backlog = Gauge("loop_spool_bytes", "Bytes that wait for the store.", multiprocess_mode="livemax")
shadows_lost = Gauge(
    "loop_shadows_lost", "Shadow calls drawn and given up.", multiprocess_mode="livesum"
)


def exposition() -> bytes:
    """All of it in Prometheus' text format, of all workers if they count together."""
    if SHARED not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


async def send_exposition(_scope: Scope, _receive: Receive, send: Send) -> None:
    """``GET /metrics``."""
    await send_whole(send, 200, [(b"content-type", CONTENT_TYPE_LATEST.encode())], exposition())


def forget(pid: int) -> None:
    """A worker is gone: what it had in flight is no more."""
    if SHARED in os.environ:
        multiprocess.mark_process_dead(pid)


def answered(wire: str, who: str, status: int, began: float, first: float | None) -> None:
    """Count one answer that is out.

    Args:
        wire: its format.
        who: answered: student, escalated or frontier.
        status: of HTTP.
        began: when the request came, as ``time.perf_counter`` tells it.
        first: when its first byte left, likewise.
    """
    now = time.perf_counter()
    count, whole, head = _of(wire, who, status)
    count.inc()
    whole.observe(now - began)
    head.observe((first or now) - began)


@lru_cache(maxsize=512)
def _of(wire: str, who: str, status: int) -> tuple[Counter, Histogram, Histogram]:
    # Finding the series of a label takes longer than counting.
    return requests.labels(wire, who, str(status)), seconds.labels(who), first_byte.labels(who)
