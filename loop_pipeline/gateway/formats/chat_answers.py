"""Answers of chat completions: read, renamed, and written as a student's; OpenAI's errors.

Not here: requests (``chat_completions.py``), answers that are streamed to us (``chat_stream.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.exchange import Reply, Request, TokenCounts
from loop_pipeline.gateway.formats.sse import DONE, event_of

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}

# An older word, and what OpenRouter and vLLM say where the answer is no whole one.
_FINISH_REASONS = {"function_call": "tool_calls", "error": "broken", "abort": "broken"}

_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.)*")')


def read_reply(body: bytes) -> Reply:
    """What a whole answer says; ``broken`` if it has no choices or an error."""
    answer = fields.load_reply(body)
    choices = [c for c in fields.as_list(answer.get("choices")) if isinstance(c, dict)]
    first = min(choices, key=lambda c: fields.count(c.get("index")), default={})
    message = fields.as_dict(first.get("message"))
    refusal = fields.as_text(message.get("refusal"))
    reason = finish_reason_of(first.get("finish_reason"))
    return Reply(
        text=text_of(message.get("content")) or refusal,
        tool_calls=_tool_calls_of(message),
        finish_reason=reason if choices and not answer.get("error") else "broken",
        model=fields.text_or_none(answer.get("model")),
        response_id=fields.text_or_none(answer.get("id")),
        refusal=bool(refusal),
        service_tier=fields.text_or_none(answer.get("service_tier")),
        **usage_of(answer.get("usage")),
    )


def _tool_calls_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = [call for call in fields.as_list(message.get("tool_calls")) if isinstance(call, dict)]
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        calls.append({"type": "function", "function": legacy})
    return calls


def text_of(content: Any) -> str:
    """The text of a content: itself, or its text parts joined."""
    if isinstance(content, list):
        return "".join(fields.as_text(fields.as_dict(part).get("text")) for part in content)
    return fields.as_text(content)


def finish_reason_of(value: Any) -> str | None:
    """How the answer ended, in today's words."""
    reason = fields.text_or_none(value)
    return _FINISH_REASONS.get(reason, reason) if reason else None


def usage_of(usage: Any) -> TokenCounts:
    """The token counts of a ``usage``, named as in ``Reply``."""
    known = fields.as_dict(usage)
    inside = fields.as_dict(known.get("prompt_tokens_details"))
    out = fields.as_dict(known.get("completion_tokens_details"))
    tokens_in = fields.count(known.get("prompt_tokens"))
    return {
        "tokens_in": tokens_in,
        "tokens_cached": min(fields.count(inside.get("cached_tokens")), tokens_in),
        "tokens_cache_write": fields.count(inside.get("cache_write_tokens")),
        "tokens_cache_write_1h": 0,
        "tokens_audio_in": fields.count(inside.get("audio_tokens")),
        "tokens_out": fields.count(known.get("completion_tokens")),
        "tokens_audio_out": fields.count(out.get("audio_tokens")),
        "tokens_reasoning": fields.count(out.get("reasoning_tokens")),
    }


def renamed(body: bytes, prompt_id: str, response_id: str | None = None) -> bytes:
    """The answer under the id that feedback needs; not for answers that OpenAI stores.

    Args:
        body: the answer as it came.
        prompt_id: the request's.
        response_id: the answer's, if it was read already (``Reply.response_id``).
    """
    return with_id(body, response_id or fields.load_reply(body).get("id"), prompt_id)


def with_id(body: bytes, known_id: Any, prompt_id: str) -> bytes:
    """The bytes of an answer or event with its id replaced, all others as they came.

    Quotes inside JSON strings are escaped, so ``"id":`` is a key wherever these bytes stand.
    """
    if not isinstance(known_id, str) or not known_id:
        return body
    known = orjson.dumps(known_id)
    at = body.find(b'"id":' + known)
    if at >= 0:
        begin, end = at + 5, at + 5 + len(known)
    elif match := next((m for m in _ID.finditer(body) if _says(m[1], known_id)), None):
        begin, end = match.span(1)
    else:
        return body
    return body[:begin] + orjson.dumps(f"chatcmpl-{prompt_id}") + body[end:]


def _says(written: bytes, known_id: str) -> bool:
    """Whether a written string is this id, also where it escapes what needs no escape."""
    return fields.load_reply(b'{"id":%b}' % written).get("id") == known_id


def write_reply(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a chat completion. Only what is listed here reaches the client."""
    message = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    head = _head("chat.completion", request, prompt_id, created, system_fingerprint)
    choice = {"message": message} | _end(reply)
    return orjson.dumps(head | {"choices": [{"index": 0} | choice], "usage": written_usage(reply)})


def write_stream(
    request: Request, reply: Reply, *, prompt_id: str, created: int, system_fingerprint: str
) -> bytes:
    """A student's answer as a whole stream: one piece, its end, usage if asked for, [DONE]."""
    head = _head("chat.completion.chunk", request, prompt_id, created, system_fingerprint)
    usage = {"usage": None} if request.wants_usage else {}
    delta = {"role": "assistant", "content": reply.text, "refusal": None}
    first = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    last = {"index": 0, "delta": {}} | _end(reply)
    chunks = [head | {"choices": [choice]} | usage for choice in (first, last)]
    if request.wants_usage:
        chunks.append(head | {"choices": [], "usage": written_usage(reply)})
    return b"".join(event_of(chunk) for chunk in chunks) + DONE


def _head(
    kind: str, request: Request, prompt_id: str, created: int, system_fingerprint: str
) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{prompt_id}",
        "object": kind,
        "created": created,
        "model": request.model,
        "system_fingerprint": system_fingerprint,
    }


def _end(reply: Reply) -> dict[str, Any]:
    return {"logprobs": None, "finish_reason": reply.finish_reason or "stop"}


def written_usage(reply: Reply) -> dict[str, Any]:
    """The token counts of an answer, as chat completions name them."""
    return {
        "prompt_tokens": reply.tokens_in,
        "completion_tokens": reply.tokens_out,
        "total_tokens": reply.tokens_in + reply.tokens_out,
        "prompt_tokens_details": {"cached_tokens": reply.tokens_cached},
        "completion_tokens_details": {"reasoning_tokens": reply.tokens_reasoning},
    }


def error_of(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    """An error of ours in the form of OpenAI's."""
    kind = _ERROR_TYPES.get(status)
    if kind is None:
        kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def error_body(status: int, message: str, code: str, param: str | None = None) -> bytes:
    """The body of an answer with a status of 400 and more; ``param`` is the field at fault."""
    return orjson.dumps({"error": error_of(status, message, code, param)})


def error_event(status: int, message: str, code: str) -> bytes:
    """The event that ends a stream which broke: all clients raise it."""
    return event_of({"error": error_of(status, message, code)})
