"""OpenAI's Responses: what a request asks for, and whether a student may be asked.

Not here: answers and their streams (``responses_answers.py``); all that the gateway needs of this
format can be had from here.
"""

from __future__ import annotations

from typing import Any

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.asked_contract import any_json, json_contract
from loop_pipeline.gateway.formats.chat_answers import error_body
from loop_pipeline.gateway.formats.chat_completions import text_obstacle
from loop_pipeline.gateway.formats.exchange import BadRequest, Request
from loop_pipeline.gateway.formats.responses_answers import (
    StreamReader,
    error_event,
    read_reply,
    tool_call_of,
    write_reply,
    write_stream,
)

__all__ = [
    "StreamReader",
    "error_body",
    "error_event",
    "read_reply",
    "read_request",
    "write_reply",
    "write_stream",
]

# The model of a request that leaves it to a stored prompt: a trace needs one.
UNNAMED = "unnamed"


def _is_effort(value: Any) -> bool:
    given = {name for name, wish in fields.as_dict(value).items() if wish is not None}
    return isinstance(value, dict) and given <= {"effort"}


def _is_text_form(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= {"format", "verbosity"}


# Fields that a student may be asked with, and the values (see ``chat_completions.ASKABLE``).
ASKABLE: dict[str, fields.Check] = {
    "model": fields.is_text,
    "input": fields.anything,
    "instructions": fields.is_text,
    "store": fields.is_false,
    "stream": fields.is_bool,
    "stream_options": lambda value: (
        isinstance(value, dict) and not value.keys() - {"include_obfuscation"}
    ),
    "temperature": fields.is_share,
    "top_p": fields.is_share,
    "max_output_tokens": fields.is_limit,
    "text": _is_text_form,
    "reasoning": _is_effort,
    "metadata": fields.is_object,
    "user": fields.is_text,
    "safety_identifier": fields.is_text,
    "prompt_cache_key": fields.is_text,
    "prompt_cache_retention": fields.is_text,
    "service_tier": fields.is_text,
    "background": fields.is_false,
    "include": fields.is_empty,
    "tools": fields.is_empty,
    "tool_choice": lambda value: value in ("none", "auto"),
    "parallel_tool_calls": fields.is_bool,
    "top_logprobs": fields.is_zero,
    "truncation": lambda value: value == "disabled",
}

# Kept with the trace: what shapes an answer.
PARAMETERS = (
    *("temperature", "top_p", "max_output_tokens", "max_tool_calls", "text", "reasoning"),
    *("tool_choice", "parallel_tool_calls", "service_tier", "truncation", "top_logprobs"),
    *("previous_response_id", "background", "include"),
)

_TEXT_PARTS = ("input_text", "output_text", "text")


def read_request(body: bytes) -> Request:
    """What a request asks for, its input as messages of chat completions.

    Raises:
        BadRequest: no JSON object, or a model or an input that is none.
    """
    asked, strict = fields.load_request(body)
    model = UNNAMED if asked.get("model") is None else fields.model_of(asked)
    items = _items_of(asked.get("input"))
    messages = [message for item in items if (message := _message_of(item))]
    if instructions := fields.as_text(asked.get("instructions")):
        messages.insert(0, {"role": "system", "content": instructions})
    contract, obstacle = _contract_of(fields.as_dict(asked.get("text")).get("format"))
    obstacle = fields.first_obstacle(asked, ASKABLE) or obstacle or _obstacle(asked, items)
    obstacle = obstacle or text_obstacle(messages)
    return Request(
        wire="responses",
        model=model,
        messages=messages or [{"role": "user", "content": ""}],
        stream=asked.get("stream") is True,
        wants_usage=True,
        tools=fields.as_list(asked.get("tools")) or None,
        parameters=fields.chosen(asked, PARAMETERS),
        contract=contract,
        max_tokens=fields.smallest_count(asked.get("max_output_tokens")),
        user=fields.text_or_none(asked.get("safety_identifier"))
        or fields.text_or_none(asked.get("user")),
        tags=fields.as_dict(asked.get("metadata")) or None,
        stored=asked.get("store") is not False,
        frontier_only=obstacle if strict else obstacle or "text that is not Unicode",
    )


def _items_of(given: Any) -> list[dict[str, Any]]:
    if given is None:
        return []
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise BadRequest("'input' is neither text nor a list", "input")
    for number, item in enumerate(given):
        if not isinstance(item, dict):
            raise BadRequest(f"'input[{number}]' is no object", f"input[{number}]")
    return given


def _contract_of(wanted: Any) -> tuple[dict[str, Any] | None, str | None]:
    """The contract, or why only the frontier can keep what is wanted."""
    if wanted is None or wanted == {"type": "text"}:
        return None, None
    contract = None
    if wanted == {"type": "json_object"}:
        contract = any_json()
    elif fields.as_dict(wanted).get("type") == "json_schema":
        contract = json_contract(wanted.get("schema"))
    return contract, None if contract else "text.format"


def _obstacle(asked: dict[str, Any], items: list[dict[str, Any]]) -> str | None:
    """What only this format has, and a student cannot be asked with."""
    if asked.get("store") is not False:
        return "store"
    if asked.get("model") is None or not items:
        return "input" if asked.get("model") else "model"
    for number, item in enumerate(items):
        if item.get("type", "message") != "message":
            return f"input[{number}].type"
        if not item.keys() <= {"type", "role", "content", "id", "status"}:
            return f"input[{number}]"
        if not all(_is_plain(part) for part in fields.as_list(item.get("content"))):
            return f"input[{number}].content"
    return None


def _is_plain(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") not in _TEXT_PARTS:
        return False
    said = {name for name, value in part.items() if value not in (None, [])}
    return isinstance(part.get("text"), str) and said <= {"type", "text"}


def _message_of(item: dict[str, Any]) -> dict[str, Any] | None:
    """One item as a message of chat completions; None for reasoning, which is not kept."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return None
    if kind == "function_call":
        return {"role": "assistant", "content": None, "tool_calls": [tool_call_of(item)]}
    if kind == "function_call_output":
        call_id = fields.as_text(item.get("call_id"))
        return {"role": "tool", "tool_call_id": call_id, "content": _content_of(item.get("output"))}
    role = fields.text_or_none(item.get("role"))
    if kind != "message" or role is None:
        return {"role": "assistant", "content": [item]}
    role = "system" if role == "developer" else role
    return {"role": role, "content": _content_of(item.get("content"))}


def _content_of(content: Any) -> Any:
    """A text as it is, parts of text in chat's form, other parts as they came."""
    if not isinstance(content, list):
        return fields.as_text(content)
    parts = [_part_of(fields.as_dict(part)) for part in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0].get("type") == "text" else parts


def _part_of(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": fields.as_text(part.get("text"))}
    return part
