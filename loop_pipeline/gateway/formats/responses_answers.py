"""Answers of OpenAI's Responses: read whole or streamed, and written as a student's; errors.

Not here: requests (``openai_responses.py``).
"""

from __future__ import annotations

from typing import Any

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.chat_answers import error_of
from loop_pipeline.gateway.formats.exchange import Reply, Request, TokenCounts
from loop_pipeline.gateway.formats.sse import data_of, event_of, without_data

# The events that hold the whole answer, each at the end of its stream.
ENDS = {"response.completed", "response.incomplete", "response.failed"}


def tool_call_of(item: dict[str, Any]) -> dict[str, Any]:
    """A ``function_call`` item as a tool call of chat completions."""
    name, arguments = fields.as_text(item.get("name")), fields.as_text(item.get("arguments"))
    function = {"name": name, "arguments": arguments}
    return {"id": fields.as_text(item.get("call_id")), "type": "function", "function": function}


def read_reply(body: bytes) -> Reply:
    """What a whole answer says; ``broken`` if it failed or is not there yet."""
    return _reply_of(fields.load_reply(body))


def _reply_of(answer: dict[str, Any]) -> Reply:
    items = [fields.as_dict(item) for item in fields.as_list(answer.get("output"))]
    parts = [fields.as_dict(part) for item in items for part in fields.as_list(item.get("content"))]
    calls = [tool_call_of(item) for item in items if item.get("type") == "function_call"]
    text = [fields.as_text(p.get("text")) for p in parts if p.get("type") == "output_text"]
    refusal = [fields.as_text(p.get("refusal")) for p in parts if p.get("type") == "refusal"]
    return Reply(
        text="".join(text or refusal),
        tool_calls=calls,
        finish_reason=_finish_reason(answer, bool(calls)),
        model=fields.text_or_none(answer.get("model")),
        response_id=fields.text_or_none(answer.get("id")),
        refusal=bool(refusal),
        service_tier=fields.text_or_none(answer.get("service_tier")),
        **_usage_of(answer.get("usage")),
    )


def _finish_reason(answer: dict[str, Any], has_calls: bool) -> str:
    status = answer.get("status")
    if status == "incomplete":
        why = fields.as_dict(answer.get("incomplete_details")).get("reason")
        return "content_filter" if why == "content_filter" else "length"
    if status == "cancelled":
        return "cancelled"
    if status != "completed":
        return "broken"
    return "tool_calls" if has_calls else "stop"


def _usage_of(usage: Any) -> TokenCounts:
    known = fields.as_dict(usage)
    inside = fields.as_dict(known.get("input_tokens_details"))
    out = fields.as_dict(known.get("output_tokens_details"))
    tokens_in = fields.count(known.get("input_tokens"))
    return {
        "tokens_in": tokens_in,
        "tokens_cached": min(fields.count(inside.get("cached_tokens")), tokens_in),
        "tokens_cache_write": fields.count(inside.get("cache_write_tokens")),
        "tokens_cache_write_1h": 0,
        "tokens_audio_in": fields.count(inside.get("audio_tokens")),
        "tokens_out": fields.count(known.get("output_tokens")),
        "tokens_audio_out": fields.count(out.get("audio_tokens")),
        "tokens_reasoning": fields.count(out.get("reasoning_tokens")),
    }


class StreamReader:
    """Reads a stream as it passes, bytes unchanged; its last event holds the answer."""

    def __init__(self, request: Request, prompt_id: str) -> None:
        del request, prompt_id  # the vendor's ids stay, and usage is always sent
        self._answer: dict[str, Any] = {}
        self._text: list[str] = []
        self._failed = False
        self.ended = False

    def take(self, event: bytes) -> bytes:
        """The event as it came; it is read on the way."""
        data = data_of(event).strip()
        if not data:
            return without_data(event)
        try:
            said, _ = fields.load(data)
        except ValueError:
            return event
        if isinstance(said, dict):
            self._read(said)
        return event

    def _read(self, said: dict[str, Any]) -> None:
        kind = said.get("type")
        if kind == "response.output_text.delta":
            self._text.append(fields.as_text(said.get("delta")))
        elif kind == "error" or said.get("error"):
            self.ended = self._failed = True
        elif isinstance(answer := said.get("response"), dict):
            self._answer = answer
            self.ended = self.ended or (isinstance(kind, str) and kind in ENDS)

    def reply(self) -> Reply:
        """The answer of the last event; ``broken``, with the text so far, if that never came."""
        if self.ended and not self._failed:
            return _reply_of(self._answer)
        return Reply(
            text="".join(self._text),
            finish_reason="broken",
            model=fields.text_or_none(self._answer.get("model")),
            response_id=fields.text_or_none(self._answer.get("id")),
        )


def write_reply(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a response. Only what is listed here reaches the client."""
    del system_fingerprint  # this format has none
    whole = _item(prompt_id, [_part(reply.text)], "completed")
    return orjson.dumps(_response(request, prompt_id, created) | _end(reply, whole))


def write_stream(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a whole stream, its text in one piece."""
    del system_fingerprint  # this format has none
    begun = _response(request, prompt_id, created)
    whole = _item(prompt_id, [_part(reply.text)], "completed")
    place = {"item_id": whole["id"], "output_index": 0, "content_index": 0}
    text = {"text": reply.text, "logprobs": []}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": begun}),
        ("in_progress", {"response": begun}),
        ("output_item.added", {"output_index": 0, "item": _item(prompt_id, [], "in_progress")}),
        ("content_part.added", place | {"part": _part("")}),
        ("output_text.delta", place | {"delta": reply.text, "logprobs": []}),
        ("output_text.done", place | text),
        ("content_part.done", place | {"part": _part(reply.text)}),
        ("output_item.done", {"output_index": 0, "item": whole}),
        ("completed", {"response": begun | _end(reply, whole)}),
    ]
    return b"".join(
        event_of({"type": f"response.{name}", "sequence_number": n} | data, f"response.{name}")
        for n, (name, data) in enumerate(events)
    )


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(prompt_id: str, content: list[dict[str, Any]], status: str) -> dict[str, Any]:
    head = {"id": f"msg_{prompt_id}", "type": "message", "status": status}
    return head | {"role": "assistant", "content": content}


def _response(request: Request, prompt_id: str, created: int) -> dict[str, Any]:
    """A response that has begun, with the fields clients read and what the request wished."""
    wished = request.parameters
    return {
        "id": f"resp_{prompt_id}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "model": request.model,
        "output": [],
        "parallel_tool_calls": wished.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None} | wished.get("reasoning", {}),
        "store": False,
        "temperature": wished.get("temperature", 1.0),
        "text": {"format": {"type": "text"}} | wished.get("text", {}),
        "tool_choice": wished.get("tool_choice", "auto"),
        "tools": [],
        "top_p": wished.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "metadata": request.tags or {},
    }


def _end(reply: Reply, item: dict[str, Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": reply.tokens_in,
        "input_tokens_details": {"cached_tokens": reply.tokens_cached, "cache_write_tokens": 0},
        "output_tokens": reply.tokens_out,
        "output_tokens_details": {"reasoning_tokens": reply.tokens_reasoning},
        "total_tokens": reply.tokens_in + reply.tokens_out,
    }
    return {"status": "completed", "output": [item], "usage": usage}


def error_event(status: int, message: str, code: str) -> bytes:
    """The event that ends a stream which broke: the documented fields, and what clients raise."""
    error = error_of(status, message, code)
    told = {"code": code, "message": message, "param": None, "sequence_number": 0}
    return event_of({"type": "error", "error": error} | told, "error")
