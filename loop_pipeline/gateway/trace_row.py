"""One request and one answer to it as a line of the import format.

Not here: writing the line down (``capture.py``), and reading it (``traces/records.py``).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from loop_pipeline.confidence.answer_score import logprob_features
from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.traces.messages import answer_text

# Models that say so of themselves: what they answer is marked wherever figures rest on it.
SIMULATED = "simulated/"
SUMMARY = ("sum", "min", "p10", "mean")
# Kinds of tokens that few answers have.
KINDS = (
    *("tokens_cache_write", "tokens_cache_write_1h", "tokens_audio_in", "tokens_audio_out"),
    "tokens_reasoning",
)
# Fields of traces and feedback that hold what people and models wrote.
WRITTEN = (
    *("messages", "tools", "parameters", "tags", "context"),
    *("output", "tool_calls", "edited_output"),
)


def as_it_is(text: str) -> str:
    """Hides nothing."""
    return text


def trace_row(
    request: Request,
    reply: Reply,
    *,
    prompt_id: str,
    ts: dt.datetime,
    app: str,
    user_hash: str | None,
    task: str | None,
    conversation_id: str | None,
    latency_ms: float,
    first_byte_ms: float | None,
    retries: int,
    route: Mapping[str, Any],
    producer: str,
    model: str,
    cost_usd: float | None = None,
    hide: Callable[[str], str] = as_it_is,
) -> dict[str, Any]:
    """The trace of an answer; every other answer to the same request is a trace of its own.

    Args:
        request: what was asked.
        reply: what was answered; one that is ``broken`` or ``cancelled`` is kept, and teaches
            nothing.
        prompt_id: of this answer.
        ts: when the request came, with its time zone.
        app: of the key.
        user_hash: keyed already.
        task: as the client named it.
        conversation_id: as the client named it, or a digest.
        latency_ms: from the request to the last byte.
        first_byte_ms: to the first one.
        retries: how often the client's library had asked before.
        route: the decision and what came of it.
        producer: ``frontier`` or ``student``.
        model: the one that was asked for, which has a price; the one that answered is in ``reply``.
        cost_usd: what it billed; None: unpriced, or a student's, which bills nothing by the token.
        hide: what takes personal data out of a text.
    """
    calls = hidden(reply.tool_calls, hide) or None
    more = {"refusal": reply.refusal}
    row: dict[str, Any] = {
        "prompt_id": prompt_id,
        "ts": ts.isoformat(),
        "app": app,
        "user_hash": user_hash,
        "task": task,
        "conversation_id": conversation_id,
        "messages": hidden(request.messages, hide),
        "tools": hidden(request.tools, hide) or None,
        "parameters": hidden(request.parameters, hide) or None,
        "tags": hidden(request.tags, hide) or None,
        "contract": request.contract,
        "output": answer_text(hide(reply.text), calls),
        "tool_calls": calls,
        "producer": producer,
        "model": model,
        "served_model": reply.model,
        "response_id": reply.response_id,
        "tokens_in": reply.tokens_in,
        "tokens_cached": reply.tokens_cached,
        "tokens_out": reply.tokens_out,
        **{name: count for name in KINDS if (count := getattr(reply, name))},
        "service_tier": reply.service_tier,
        "cost_usd": cost_usd,
        "latency_ms": latency_ms,
        "first_byte_ms": first_byte_ms,
        "retries": retries,
        "finish_reason": reply.finish_reason,
        "simulated": (reply.model or "").startswith(SIMULATED) or None,
        "logprobs": _summary(reply),
        "route": {**route, **{name: value for name, value in more.items() if value}},
    }
    return {name: value for name, value in row.items() if value is not None}


def _summary(reply: Reply) -> dict[str, float] | None:
    """As ``student_answers`` has it; None where there are no numbers to speak of."""
    if not reply.token_logprobs or not all(map(math.isfinite, reply.token_logprobs)):
        return None
    features = logprob_features(reply.token_logprobs, reply.tokens_out)
    return {name: features[f"logprob_{name}"] for name in SUMMARY}


def hidden_row(row: dict[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    """A row that was handed in, with all that people and models wrote in it hidden."""
    if hide is as_it_is:
        return row
    return row | {name: hidden(row[name], hide) for name in WRITTEN if name in row}


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """Every text in it hidden; names of fields stay."""
    if hide is as_it_is:
        return value
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [hidden(item, hide) for item in value]
    if isinstance(value, dict):
        return {name: hidden(item, hide) for name, item in value.items()}
    return value
