"""The older text completions: captured as one message of the user, always the frontier's.

Not here: chat completions (``chat_completions.py``), whose errors and usage these share.
"""

from __future__ import annotations

from typing import Any

import orjson

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats import chat_stream
from loop_pipeline.gateway.formats.chat_answers import (
    error_body,
    error_event,
    finish_reason_of,
    usage_of,
)
from loop_pipeline.gateway.formats.chat_completions import with_usage
from loop_pipeline.gateway.formats.exchange import Reply, Request

__all__ = ["StreamReader", "error_body", "error_event", "read_reply", "read_request", "with_usage"]

# Kept with the trace: what shapes an answer.
PARAMETERS = (
    *("temperature", "top_p", "seed", "max_tokens", "stop", "n", "best_of", "echo", "suffix"),
    *("presence_penalty", "frequency_penalty", "logprobs", "logit_bias"),
)


def read_request(body: bytes) -> Request:
    """What a request asks for.

    Raises:
        BadRequest: no JSON object, or no model.
    """
    asked, _ = fields.load_request(body)
    return Request(
        wire="completions",
        model=fields.model_of(asked),
        messages=[{"role": "user", "content": _text_of(asked.get("prompt"))}],
        stream=asked.get("stream") is True,
        wants_usage=fields.as_dict(asked.get("stream_options")).get("include_usage") is True,
        parameters=fields.chosen(asked, PARAMETERS),
        max_tokens=fields.smallest_count(asked.get("max_tokens")),
        stop=fields.stops_of(asked.get("stop")),
        user=fields.text_or_none(asked.get("user")),
        tags=fields.as_dict(asked.get("metadata")) or None,
        frontier_only="prompt",
    )


def _text_of(prompt: Any) -> str:
    """The prompt as one text: several are joined by lines, tokens written as numbers."""
    parts = prompt if isinstance(prompt, list) else [prompt]
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return "" if prompt is None else orjson.dumps(prompt).decode()


def read_reply(body: bytes) -> Reply:
    """What a whole answer says; ``broken`` if it has no choices."""
    answer = fields.load_reply(body)
    choices = [c for c in fields.as_list(answer.get("choices")) if isinstance(c, dict)]
    first = min(choices, key=lambda c: fields.count(c.get("index")), default={})
    reason = finish_reason_of(first.get("finish_reason"))
    return Reply(
        text=fields.as_text(first.get("text")),
        finish_reason=reason if choices else "broken",
        model=fields.text_or_none(answer.get("model")),
        response_id=fields.text_or_none(answer.get("id")),
        service_tier=fields.text_or_none(answer.get("service_tier")),
        **usage_of(answer.get("usage")),
    )


class StreamReader(chat_stream.StreamReader):
    """Reads a stream as it passes, under the id it came with."""

    def __init__(self, request: Request, prompt_id: str) -> None:
        super().__init__(request, prompt_id)
        self._prompt_id = ""

    def _delta_of(self, piece: dict[str, Any]) -> dict[str, Any]:
        return {"content": piece.get("text")}
