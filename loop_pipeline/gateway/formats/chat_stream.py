"""The stream of a chat completion: what is passed on, and the answer its pieces make up.

Not here: cutting bytes into events (``sse.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loop_pipeline.gateway.formats import body_fields as fields
from loop_pipeline.gateway.formats.chat_answers import (
    finish_reason_of,
    text_of,
    usage_of,
    with_id,
)
from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.gateway.formats.sse import data_of, without_data


class ToolCalls:
    """Tool calls that come in pieces, by index; vendors leave the index out or repeat it."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._places: dict[int, int] = {}

    def add(self, piece: dict[str, Any]) -> None:
        """Takes one piece: of the call it names, or of a new one."""
        function = fields.as_dict(piece.get("function"))
        name = fields.as_text(function.get("name"))
        call = self._call_of(piece, name)
        call["function"]["name"] += name
        call["function"]["arguments"] += fields.as_text(function.get("arguments"))
        call["id"] = call["id"] or fields.as_text(piece.get("id"))

    def _call_of(self, piece: dict[str, Any], name: str) -> dict[str, Any]:
        index, call_id = piece.get("index"), fields.as_text(piece.get("id"))
        if type(index) is int:
            place = self._places.get(index)
        elif call_id:
            known = [call["id"] for call in self._calls]
            place = known.index(call_id) if call_id in known else None
        else:
            place = len(self._calls) - 1 if self._calls else None
        # One index for all calls, as Gemini does it: another id and a name begin another call.
        if place is not None and call_id and name and self._calls[place]["id"] not in ("", call_id):
            place = None
        if place is None:
            place = len(self._calls)
            function = {"name": "", "arguments": ""}
            self._calls.append({"id": "", "type": "function", "function": function})
        if type(index) is int:
            self._places[index] = place
        return self._calls[place]

    def whole(self) -> list[dict[str, Any]]:
        """The calls so far, in the order they began."""
        return self._calls


@dataclass(slots=True)
class Choice:
    """One of the answers to a request, as far as it has come."""

    text: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tool_calls: ToolCalls = field(default_factory=ToolCalls)
    finish_reason: str | None = None

    def add(self, delta: dict[str, Any]) -> None:
        """Takes one piece. Reasoning is no part of the answer."""
        if text := text_of(delta.get("content")):
            self.text.append(text)
        if refusal := fields.as_text(delta.get("refusal")):
            self.refusal.append(refusal)
        for piece in fields.as_list(delta.get("tool_calls")):
            self.tool_calls.add(fields.as_dict(piece))
        if legacy := fields.as_dict(delta.get("function_call")):
            self.tool_calls.add({"index": 0, "function": legacy})


class StreamReader:
    """Reads a stream as it passes: an answer is whole once ``ended``.

    ``ended`` does not mean that nothing comes any more: the usage comes after the end.
    """

    def __init__(self, request: Request, prompt_id: str) -> None:
        self._prompt_id = "" if request.stored else prompt_id
        self._keeps_usage = request.wants_usage
        self._choices: dict[int, Choice] = {}
        self._usage: Any = None
        self._tier: str | None = None
        self._model: str | None = None
        self._response_id: str | None = None
        self._done = False
        self._failed = False
        self._torn = False

    @property
    def ended(self) -> bool:
        """Whether the stream said that it is over: it may stop here without an error event."""
        reasons = [choice.finish_reason for choice in self._choices.values()]
        return self._done or self._failed or (bool(reasons) and all(reasons))

    def take(self, event: bytes) -> bytes:
        """What to pass on of one whole event: all of it, under our id, or nothing."""
        data = data_of(event).strip()
        if not data:
            return without_data(event)
        if data == b"[DONE]":
            self._done = True
            return event
        try:
            chunk, _ = fields.load(data)
        except ValueError:
            self._torn = self._torn or data.startswith(b"{")
            return event
        return self._take_chunk(chunk, event) if isinstance(chunk, dict) else event

    def _take_chunk(self, chunk: dict[str, Any], event: bytes) -> bytes:
        self._failed = self._failed or bool(chunk.get("error"))
        self._model = fields.text_or_none(chunk.get("model")) or self._model
        self._response_id = self._response_id or fields.text_or_none(chunk.get("id"))
        self._tier = fields.text_or_none(chunk.get("service_tier")) or self._tier
        choices = fields.as_list(chunk.get("choices"))
        for choice in choices:
            if isinstance(choice, dict):
                self._take_choice(choice)
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
            if not choices and not self._keeps_usage and not chunk.get("error"):
                return b""
        return with_id(event, chunk.get("id"), self._prompt_id) if self._prompt_id else event

    def _take_choice(self, piece: dict[str, Any]) -> None:
        choice = self._choices.setdefault(fields.count(piece.get("index")), Choice())
        choice.add(self._delta_of(piece))
        choice.finish_reason = finish_reason_of(piece.get("finish_reason")) or choice.finish_reason

    def _delta_of(self, piece: dict[str, Any]) -> dict[str, Any]:
        return fields.as_dict(piece.get("delta"))

    def reply(self) -> Reply:
        """The answer so far, ``broken`` unless it ended well and every piece could be read."""
        choice = self._choices[min(self._choices)] if self._choices else Choice()
        whole = self.ended and not self._failed and not self._torn and bool(self._choices)
        return Reply(
            text="".join(choice.text or choice.refusal),
            tool_calls=choice.tool_calls.whole(),
            finish_reason=choice.finish_reason if whole else "broken",
            model=self._model,
            response_id=self._response_id,
            refusal=bool(choice.refusal),
            service_tier=self._tier,
            **usage_of(self._usage),
        )
