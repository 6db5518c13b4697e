"""Chat completions: what a request asks for, and whether a student may be asked.

Not here: answers (``chat_answers.py``) and their streams (``chat_stream.py``); all that the gateway
needs of this format can be had from here.
"""

from __future__ import annotations

from typing import Any

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.asked_contract import any_json, json_contract
from loop_pipeline.gateway.formats.chat_answers import (
    error_body,
    error_event,
    read_reply,
    renamed,
    write_reply,
    write_stream,
)
from loop_pipeline.gateway.formats.chat_stream import StreamReader
from loop_pipeline.gateway.formats.exchange import Request

__all__ = [
    "StreamReader",
    "error_body",
    "error_event",
    "read_reply",
    "read_request",
    "renamed",
    "with_usage",
    "write_reply",
    "write_stream",
]


def _is_no_tool(value: Any) -> bool:
    return value in ("none", "auto")  # without tools these are the default


def _is_text_only(value: Any) -> bool:
    return value == ["text"]


def _is_stream_options(value: Any) -> bool:
    known = {"include_usage", "include_obfuscation"}
    return isinstance(value, dict) and value.keys() <= known


# Fields that a student may be asked with, and the values: what shapes style and length is checked
# on its answer, what does nothing is allowed, everything else is the frontier's alone.
ASKABLE: dict[str, fields.Check] = {
    "model": fields.anything,
    "messages": fields.anything,
    "stream": fields.is_bool,
    "stream_options": _is_stream_options,
    "temperature": fields.is_share,
    "top_p": fields.is_share,
    "seed": fields.is_int,
    "max_tokens": fields.is_limit,
    "max_completion_tokens": fields.is_limit,
    "stop": fields.is_stop,
    "response_format": fields.is_object,
    "user": fields.is_text,
    "safety_identifier": fields.is_text,
    "metadata": fields.is_object,
    "prompt_cache_key": fields.is_text,
    "prompt_cache_retention": fields.is_text,
    "service_tier": fields.is_text,
    "reasoning_effort": fields.is_text,
    "verbosity": fields.is_text,
    "store": fields.is_false,
    "n": lambda value: type(value) is int and value == 1,
    "presence_penalty": fields.is_zero,
    "frequency_penalty": fields.is_zero,
    "logprobs": fields.is_false,
    "logit_bias": fields.is_empty,
    "modalities": _is_text_only,
    "tools": fields.is_empty,
    "functions": fields.is_empty,
    "tool_choice": _is_no_tool,
    "parallel_tool_calls": fields.is_bool,
}

# Kept with the trace: what shapes an answer.
PARAMETERS = (
    *("temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "stop", "n"),
    *("presence_penalty", "frequency_penalty", "response_format", "tool_choice"),
    *("parallel_tool_calls", "reasoning_effort", "verbosity", "service_tier", "modalities"),
    *("logprobs", "top_logprobs", "logit_bias"),
)

_ROLES = {"system", "developer", "user", "assistant"}

# Fields of a message beside its text that say nothing when they are empty.
_SILENT_WHEN_EMPTY = {"tool_calls", "function_call", "refusal", "audio", "annotations"}


def read_request(body: bytes) -> Request:
    """What a request asks for.

    Raises:
        BadRequest: no JSON object, no model, or no messages.
    """
    asked, strict = fields.load_request(body)
    model = fields.model_of(asked)
    messages = [_with_known_role(message) for message in fields.messages_of(asked)]
    contract, obstacle = _contract_of(asked.get("response_format"))
    obstacle = fields.first_obstacle(asked, ASKABLE) or text_obstacle(messages) or obstacle
    stream = asked.get("stream") is True
    options = fields.as_dict(asked.get("stream_options"))
    if options and not stream:
        obstacle = obstacle or "stream_options"
    return Request(
        wire="chat",
        model=model,
        messages=messages,
        stream=stream,
        wants_usage=options.get("include_usage") is True,
        tools=fields.as_list(asked.get("tools") or asked.get("functions")) or None,
        parameters=fields.chosen(asked, PARAMETERS),
        contract=contract,
        max_tokens=fields.smallest_count(
            asked.get("max_tokens"), asked.get("max_completion_tokens")
        ),
        stop=fields.stops_of(asked.get("stop")),
        user=fields.text_or_none(asked.get("safety_identifier"))
        or fields.text_or_none(asked.get("user")),
        tags=fields.as_dict(asked.get("metadata")) or None,
        stored=asked.get("store") is True,
        frontier_only=obstacle if strict else obstacle or "text that is not Unicode",
    )


def _with_known_role(message: dict[str, Any]) -> dict[str, Any]:
    # "developer" is OpenAI's newer word for the same: two templates would be one without it.
    if message["role"] == "developer":
        message = message | {"role": "system"}
    return message if "content" in message else message | {"content": None}


def _contract_of(wanted: Any) -> tuple[dict[str, Any] | None, str | None]:
    """The contract, or why only the frontier can keep what is wanted."""
    if not isinstance(wanted, dict) or wanted == {"type": "text"}:
        return None, None
    contract = None
    if wanted == {"type": "json_object"}:
        contract = any_json()
    elif wanted.get("type") == "json_schema":
        contract = json_contract(fields.as_dict(wanted.get("json_schema")).get("schema"))
    return contract, None if contract else "response_format"


def text_obstacle(messages: list[dict[str, Any]]) -> str | None:
    """The first thing in the messages that is not text of a known role, if any."""
    for number, message in enumerate(messages):
        if message["role"] not in _ROLES:
            return f"messages[{number}].role"
        for name, value in message.items():
            if name == "content":
                good = isinstance(value, str) or _all_text(value)
            elif name in _SILENT_WHEN_EMPTY:
                good = not value
            else:
                good = name in ("role", "name") and isinstance(value, str | None)
            if not good:
                return f"messages[{number}].{fields.field_name(name)}"
    return None


def _all_text(content: Any) -> bool:
    if not isinstance(content, list) or not content:
        return False
    return all(
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
        for part in content
    )


def with_usage(body: bytes) -> bytes:
    """The request, asking for the usage at the end of its stream; other bytes as they came."""
    if b'"stream_options"' not in body:
        wish = b'{"stream_options":{"include_usage":true},'
        return body.replace(b"{", wish, 1)
    asked, _ = fields.load_request(body)
    options = fields.as_dict(asked.get("stream_options")) | {"include_usage": True}
    return orjson.dumps(asked | {"stream_options": options})
