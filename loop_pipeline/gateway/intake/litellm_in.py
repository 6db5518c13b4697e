"""``POST /v1/ingest/litellm``: batches of LiteLLM's ``generic_api`` callback as traces.

Not here: the endpoint (``handed_in.py``), and LiteLLM's configuration, which is three lines of its
own file (``docs``).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.chat_completions import read_reply
from loop_pipeline.gateway.http.call import DIGEST
from loop_pipeline.gateway.http.problems import Problem
from loop_pipeline.gateway.intake.handed_in import Batch
from loop_pipeline.gateway.trace_row import KINDS
from loop_pipeline.installation_secret import keyed_digest
from loop_pipeline.traces.messages import answer_text
from loop_pipeline.traces.records import Trace
from loop_pipeline.traces.storable import unstorable
from loop_pipeline.traces.trace_lines import utc

# Kinds of calls that are a request with messages and an answer to it.
CHATS = frozenset({"completion", "acompletion", "responses", "aresponses", "anthropic_messages"})


def read_litellm(body: bytes, caller: Caller, secret: bytes) -> Batch:
    """A JSON array, one object, or one object a line; what can be no trace is counted.

    Raises:
        Problem: it is none of them.
    """
    items = list(read_batch(body))
    rows = [row for item in items if (row := to_trace(item, caller, secret)) is not None]
    return Batch(rows, passed_over=len(items) - len(rows))


def read_batch(body: bytes) -> Iterator[Any]:
    """The records of a batch.

    Raises:
        Problem: it is neither JSON nor JSON lines.
    """
    try:
        try:
            value, _ = fields.load(body)
            yield from value if isinstance(value, list) else [value]
        except ValueError:
            lines = [fields.load(line)[0] for line in body.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            yield from lines
    except ValueError as error:
        raise Problem(400, "loop_bad_batch", f"neither JSON nor JSON lines: {error}") from None


def to_trace(item: Any, caller: Caller, secret: bytes) -> dict[str, Any] | None:
    """A record as a line of the import format; None for what is no answered request."""
    record = fields.as_dict(item)
    messages = record.get("messages")
    response = fields.as_dict(record.get("response"))
    if record.get("status") != "success" or fields.as_text(record.get("call_type")) not in CHATS:
        return None
    if not isinstance(messages, list) or not messages or not response:
        return None
    reply = read_reply(json.dumps(response).encode())
    began, ended = _seconds(record.get("startTime")), _seconds(record.get("endTime"))
    if began is None or (not reply.text and not reply.tool_calls):
        return None
    first = _seconds(record.get("completionStartTime"))
    user = fields.text_or_none(record.get("end_user"))
    calls = reply.tool_calls or None
    row = {
        "prompt_id": _id_of(record, response),
        "ts": dt.datetime.fromtimestamp(began, dt.UTC).isoformat(),
        "app": caller.app,
        "user_hash": keyed_digest(secret, "user", user)[:DIGEST] if user else None,
        "conversation_id": fields.text_or_none(record.get("trace_id")),
        "messages": messages,
        "parameters": fields.as_dict(record.get("model_parameters")) or None,
        "output": answer_text(reply.text, calls),
        "tool_calls": calls,
        "model": fields.text_or_none(record.get("model")) or reply.model or "unknown",
        "served_model": reply.model,
        "response_id": reply.response_id,
        "tokens_in": fields.count(record.get("prompt_tokens")) or reply.tokens_in,
        "tokens_cached": reply.tokens_cached,
        "tokens_out": fields.count(record.get("completion_tokens")) or reply.tokens_out,
        **{name: count for name in KINDS if (count := getattr(reply, name))},
        "service_tier": reply.service_tier,
        "cost_usd": _cost(record),
        "latency_ms": _ms(began, ended),
        "first_byte_ms": _ms(began, first),
        "finish_reason": reply.finish_reason,
    }
    row = {name: value for name, value in row.items() if value is not None}
    try:
        utc(Trace.model_validate(row).ts)
    except (ValidationError, ValueError, OverflowError):
        return None
    # What could not be imported afterwards is passed over now, and counted.
    return None if unstorable(row) else row


def _id_of(record: dict[str, Any], response: dict[str, Any]) -> str:
    given = fields.text_or_none(record.get("id")) or fields.text_or_none(response.get("id")) or ""
    return given.removeprefix("chatcmpl-")


def _seconds(value: Any) -> float | None:
    """Seconds since 1970, given so or as a date."""
    if type(value) in (int, float) and 0 < value < 4e9:
        return float(value)
    if isinstance(value, str):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    return None


def _ms(began: float, ended: float | None) -> float | None:
    return round((ended - began) * 1000, 3) if ended is not None and ended >= began else None


def _cost(record: dict[str, Any]) -> float | None:
    """What LiteLLM says; its 0 means that it knows no price, unless its cache answered."""
    value = record.get("response_cost")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        return None
    return float(value) if value or record.get("cache_hit") is True else None
