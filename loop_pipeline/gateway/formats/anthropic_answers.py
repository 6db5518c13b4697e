"""Answers of Anthropic's Messages: read whole or streamed, and written as a student's; errors.

Not here: requests (``anthropic_messages.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.exchange import Reply, Request, TokenCounts
from loop_pipeline.gateway.formats.sse import data_of, event_of, without_data

# Their reasons in the words of chat completions. ``pause_turn`` stays: such an answer goes on.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def tool_call_of(block: dict[str, Any]) -> dict[str, Any]:
    """A ``tool_use`` block as a tool call of chat completions."""
    arguments = orjson.dumps(fields.as_dict(block.get("input"))).decode()
    function = {"name": fields.as_text(block.get("name")), "arguments": arguments}
    return {"id": fields.as_text(block.get("id")), "type": "function", "function": function}


def usage_of(usage: dict[str, Any]) -> TokenCounts:
    """The token counts of a ``usage``: theirs leave the cached ones out, ours count all."""
    cached = fields.count(usage.get("cache_read_input_tokens"))
    written = fields.count(usage.get("cache_creation_input_tokens"))
    fresh = fields.count(usage.get("input_tokens"))
    kept = fields.as_dict(usage.get("cache_creation"))
    details = fields.as_dict(usage.get("output_tokens_details"))
    tokens_in = min(fresh + written + cached, fields.MAX_COUNT)
    return {
        "tokens_in": tokens_in,
        "tokens_cached": cached,
        "tokens_cache_write": written,
        "tokens_cache_write_1h": fields.count(kept.get("ephemeral_1h_input_tokens")),
        "tokens_audio_in": 0,
        "tokens_audio_out": 0,
        "tokens_out": fields.count(usage.get("output_tokens")),
        "tokens_reasoning": fields.count(details.get("thinking_tokens")),
    }


def read_reply(body: bytes) -> Reply:
    """What a whole answer says; ``broken`` if it is none."""
    answer = fields.load_reply(body)
    if not isinstance(answer.get("content"), list):
        return Reply(finish_reason="broken")
    blocks = [fields.as_dict(block) for block in answer["content"]]
    reason = fields.text_or_none(answer.get("stop_reason"))
    usage = fields.as_dict(answer.get("usage"))
    return Reply(
        text="".join(fields.as_text(b.get("text")) for b in blocks if b.get("type") == "text"),
        tool_calls=[tool_call_of(b) for b in blocks if b.get("type") == "tool_use"],
        finish_reason=FINISH_REASONS.get(reason, reason) if reason else None,
        model=fields.text_or_none(answer.get("model")),
        response_id=fields.text_or_none(answer.get("id")),
        refusal=reason == "refusal",
        service_tier=fields.text_or_none(usage.get("service_tier")),
        **usage_of(usage),
    )


@dataclass(slots=True)
class _Block:
    """A block of an answer as far as it has come."""

    begin: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def call(self) -> dict[str, Any]:
        call = tool_call_of(self.begin)
        if written := "".join(self.arguments):
            call["function"]["arguments"] = written
        return call


class StreamReader:
    """Reads a stream as it passes, bytes unchanged; the answer is whole once ``ended``."""

    def __init__(self, request: Request, prompt_id: str) -> None:
        del request, prompt_id  # the vendor's ids stay, and usage is always sent
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, Any] = {}
        self._reason: str | None = None
        self._failed = False
        self._torn = False
        self.ended = False

    def take(self, event: bytes) -> bytes:
        """The event as it came; it is read on the way."""
        data = data_of(event).strip()
        if not data:
            return without_data(event)
        try:
            said, _ = fields.load(data)
        except ValueError:
            self._torn = self._torn or data.startswith(b"{")
            return event
        if isinstance(said, dict):
            self._read(said)
        return event

    def _read(self, said: dict[str, Any]) -> None:
        kind = said.get("type")
        if kind == "message_start":
            self._message = fields.as_dict(said.get("message"))
            self._count(self._message.get("usage"))
        elif kind == "message_delta":
            reason = fields.as_dict(said.get("delta")).get("stop_reason")
            self._reason = fields.text_or_none(reason) or self._reason
            self._count(said.get("usage"))
        elif kind == "message_stop":
            self.ended = True
        elif kind == "error":
            self.ended = self._failed = True
        elif kind in ("content_block_start", "content_block_delta"):
            self._read_block(said)

    def _count(self, usage: Any) -> None:
        given = fields.as_dict(usage).items()
        self._usage |= {name: value for name, value in given if value is not None}

    def _read_block(self, said: dict[str, Any]) -> None:
        block = self._blocks.setdefault(fields.count(said.get("index")), _Block())
        if begin := fields.as_dict(said.get("content_block")):
            block.begin = begin
            block.text.append(fields.as_text(begin.get("text")))
        delta = fields.as_dict(said.get("delta"))
        if delta.get("type") == "text_delta":
            block.text.append(fields.as_text(delta.get("text")))
        elif delta.get("type") == "input_json_delta":
            block.arguments.append(fields.as_text(delta.get("partial_json")))

    def reply(self) -> Reply:
        """The answer so far, ``broken`` unless it ended well and every piece could be read."""
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        whole = self.ended and not self._failed and not self._torn and bool(self._message)
        reason = FINISH_REASONS.get(self._reason, self._reason) if self._reason else None
        return Reply(
            text="".join("".join(b.text) for b in blocks if b.begin.get("type") == "text"),
            tool_calls=[b.call() for b in blocks if b.begin.get("type") == "tool_use"],
            finish_reason=reason if whole else "broken",
            model=fields.text_or_none(self._message.get("model")),
            response_id=fields.text_or_none(self._message.get("id")),
            refusal=self._reason == "refusal",
            service_tier=fields.text_or_none(self._usage.get("service_tier")),
            **usage_of(self._usage),
        )


def write_reply(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a message. Only what is listed here reaches the client."""
    del created, system_fingerprint  # this format has neither
    block = {"type": "text", "text": reply.text, "citations": None}
    return orjson.dumps(
        _message(request, reply, prompt_id) | {"content": [block], "stop_reason": _reason(reply)}
    )


def write_stream(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a whole stream, its text in one piece."""
    del created, system_fingerprint  # this format has neither
    start = _message(request, reply, prompt_id)
    start["usage"] = start["usage"] | {"output_tokens": 1}  # theirs begin with one
    block = {"type": "text", "text": "", "citations": None}
    end = {"stop_reason": _reason(reply), "stop_sequence": None}
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": reply.text},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": reply.tokens_out}},
        {"type": "message_stop"},
    ]
    return b"".join(event_of(event, str(event["type"])) for event in events)


def _message(request: Request, reply: Reply, prompt_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{prompt_id}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.tokens_in - reply.tokens_cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": reply.tokens_cached,
            "output_tokens": reply.tokens_out,
        },
    }


def _reason(reply: Reply) -> str:
    return "max_tokens" if reply.finish_reason == "length" else "end_turn"


def _error_of(status: int, message: str, code: str) -> dict[str, Any]:
    kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message, "code": code}}


def error_body(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """An error of ours in the form of Anthropic's, which names no field apart."""
    del param
    return orjson.dumps(_error_of(status, message, code))


def error_event(status: int, message: str, code: str) -> bytes:
    """The event that ends a stream which broke."""
    return event_of(_error_of(status, message, code), "error")
