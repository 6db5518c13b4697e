"""Anthropic's Messages: what a request asks for, and whether a student may be asked.

Not here: answers and their streams (``anthropic_answers.py``); all that the gateway needs of this
format can be had from here.
"""

from __future__ import annotations

from typing import Any

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.anthropic_answers import (
    StreamReader,
    error_body,
    error_event,
    read_reply,
    tool_call_of,
    write_reply,
    write_stream,
)
from loop_pipeline.gateway.formats.chat_completions import text_obstacle
from loop_pipeline.gateway.formats.exchange import Request

__all__ = [
    "StreamReader",
    "error_body",
    "error_event",
    "read_reply",
    "read_request",
    "write_reply",
    "write_stream",
]


def _is_no_thinking(value: Any) -> bool:
    return value == {"type": "disabled"}


# Fields that a student may be asked with, and the values (see ``chat_completions.ASKABLE``).
ASKABLE: dict[str, fields.Check] = {
    "model": fields.anything,
    "messages": fields.anything,
    "system": fields.anything,
    "max_tokens": fields.is_limit,
    "stream": fields.is_bool,
    "temperature": fields.is_share,
    "top_p": fields.is_share,
    "top_k": fields.is_int,
    "stop_sequences": lambda value: isinstance(value, list) and fields.is_stop(value),
    "metadata": fields.is_object,
    "service_tier": fields.is_text,
    "cache_control": fields.is_object,
    "tools": fields.is_empty,
    "thinking": _is_no_thinking,
}

# Kept with the trace: what shapes an answer.
PARAMETERS = (
    *("temperature", "top_p", "top_k", "max_tokens", "stop_sequences", "tool_choice", "thinking"),
    *("output_config", "service_tier"),
)

# Blocks of a model's reasoning: no part of what was said.
_REASONING = ("thinking", "redacted_thinking")


def read_request(body: bytes) -> Request:
    """What a request asks for, its messages in the form of chat completions.

    Raises:
        BadRequest: no JSON object, no model, or no messages.
    """
    asked, strict = fields.load_request(body)
    model = fields.model_of(asked)
    given = fields.messages_of(asked)
    messages = _system_of(asked.get("system"))
    for message in given:
        messages += _chat_messages(message["role"], message.get("content"))
    obstacle = fields.first_obstacle(asked, ASKABLE) or _obstacle(asked, given)
    obstacle = obstacle or text_obstacle(messages)
    metadata = fields.as_dict(asked.get("metadata"))
    return Request(
        wire="messages",
        model=model,
        messages=messages,
        stream=asked.get("stream") is True,
        wants_usage=True,
        tools=fields.as_list(asked.get("tools")) or None,
        parameters=fields.chosen(asked, PARAMETERS),
        max_tokens=fields.smallest_count(asked.get("max_tokens")),
        stop=fields.stops_of(asked.get("stop_sequences")),
        user=fields.text_or_none(metadata.get("user_id")),
        # The user is kept as a keyed hash only.
        tags={name: value for name, value in metadata.items() if name != "user_id"} or None,
        frontier_only=obstacle if strict else obstacle or "text that is not Unicode",
    )


def _obstacle(asked: dict[str, Any], given: list[dict[str, Any]]) -> str | None:
    """What only this format has in its messages and a student cannot be asked with."""
    if asked.get("max_tokens") is None:
        return "max_tokens"
    if not isinstance(asked.get("system", ""), str | list | None):
        return "system"
    for block in fields.as_list(asked.get("system")):
        if not _is_plain(block):
            return "system"
    for number, message in enumerate(given):
        if message["role"] not in ("user", "assistant") or not message.keys() <= {
            "role",
            "content",
        }:
            return f"messages[{number}]"
        blocks = fields.as_list(message.get("content"))
        if not all(_is_plain(block) for block in blocks):
            return f"messages[{number}].content"
    # The answer would have to go on where this message ends.
    return f"messages[{len(given) - 1}].role" if given[-1]["role"] == "assistant" else None


def _is_plain(block: Any) -> bool:
    if not isinstance(block, dict) or not isinstance(block.get("text"), str):
        return False
    known = {"type", "text", "cache_control", "citations"}
    return block.get("type") == "text" and block.keys() <= known and not block.get("citations")


def _system_of(system: Any) -> list[dict[str, Any]]:
    blocks = [fields.as_text(fields.as_dict(b).get("text")) for b in fields.as_list(system)]
    text = "\n".join(blocks) if blocks else fields.as_text(system)
    return [{"role": "system", "content": text}] if text else []


def _chat_messages(role: str, content: Any) -> list[dict[str, Any]]:
    """One message of Anthropic's as messages of chat completions; results of tools come first."""
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    blocks = [fields.as_dict(block) for block in content]
    results = [_tool_message(b) for b in blocks if b.get("type") == "tool_result"]
    calls = [tool_call_of(b) for b in blocks if b.get("type") == "tool_use"]
    said = [_part(b) for b in blocks if b.get("type") not in ("tool_result", "tool_use")]
    said = [part for part in said if part.get("type") not in _REASONING]
    if results and not said and not calls:
        return results
    message: dict[str, Any] = {"role": role, "content": _shortest(said)}
    return [*results, message | ({"tool_calls": calls} if calls else {})]


def _shortest(parts: list[dict[str, Any]]) -> Any:
    """One text as it is, else the parts; None if there is nothing."""
    if len(parts) == 1 and parts[0].get("type") == "text":
        return parts[0]["text"]
    return parts or None


def _part(block: dict[str, Any]) -> dict[str, Any]:
    if block.get("type") == "text":
        return {"type": "text", "text": fields.as_text(block.get("text"))}
    return block


def _tool_message(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content")
    if isinstance(content, list):
        content = _shortest([_part(fields.as_dict(part)) for part in content])
    call_id = fields.as_text(block.get("tool_use_id"))
    text = content if isinstance(content, str | list) else ""
    return {"role": "tool", "tool_call_id": call_id, "content": text}
