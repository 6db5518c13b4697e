"""A request and an answer as the gateway knows them, whatever wire format they came in.

Not here: reading and writing bytes (``chat_completions.py`` and its like).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

Wire = Literal["chat", "messages", "responses", "completions"]


class BadRequest(ValueError):
    """The body is no request of its format; ``field`` names what is wrong."""

    def __init__(self, problem: str, field: str | None = None) -> None:
        super().__init__(problem)
        self.field = field


@dataclass(frozen=True, slots=True)
class Request:
    """What is read of a request; its bytes go to the frontier as they came.

    ``messages`` are in the form of chat completions, the system prompt first; ``contract`` is what
    ``response_format`` asks for, in the form of ``answers.contract``. ``frontier_only`` says which
    field makes the request the frontier's alone (``"tools"``), None if a student may be asked.
    ``parameters`` holds what shapes an answer (temperature, limits, seed, tool choice), for the
    trace.
    """

    wire: Wire
    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    wants_usage: bool = False
    tools: list[Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    contract: dict[str, Any] | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    user: str | None = None
    tags: dict[str, Any] | None = None
    stored: bool = False
    frontier_only: str | None = None


class TokenCounts(TypedDict):
    """What an answer took, as ``Reply`` has it: each kind is among those that came in or out."""

    tokens_in: int
    tokens_cached: int
    tokens_cache_write: int
    tokens_cache_write_1h: int
    tokens_audio_in: int
    tokens_out: int
    tokens_audio_out: int
    tokens_reasoning: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: text or tool calls, what it took, and how it ended.

    ``tool_calls`` are in the form of chat completions, arguments as the model wrote them.
    ``finish_reason`` is of chat completions too (``stop``, ``length``, ``tool_calls``,
    ``content_filter``), or ``broken`` (the stream ended early) or ``cancelled`` (the client left);
    the last two teach nothing. ``token_logprobs`` are known of students' answers only.
    """

    text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    model: str | None = None
    response_id: str | None = None
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_cache_write: int = 0
    tokens_cache_write_1h: int = 0
    tokens_audio_in: int = 0
    tokens_audio_out: int = 0
    tokens_reasoning: int = 0
    service_tier: str | None = None
    refusal: bool = False
    token_logprobs: list[float] | None = None
