"""A conversation as a text student reads it, the same when it learns and when it is asked.

Not here: the text of a request (``messages.py``), and what a base's template makes of the turns
(``training/qlora/tokens.py``).

Text in parts is one text, instructions of a developer are the system prompt, and turns of one role
in a row are one turn: half of all templates refuse two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loop_pipeline.traces.messages import SYSTEM_ROLES, content_text

# Turns that may be joined to the one before; a tool's answer belongs to its own call.
JOINED = ("system", "user", "assistant")
BETWEEN = "\n\n"


class NotAText(ValueError):
    """A turn holds what no text student can read; says what."""


def student_turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns as texts.

    Raises:
        NotAText: part of a turn is an image, a file or the like, or a turn is no turn.
    """
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if not isinstance(role, str):
            raise NotAText(f"turn {number} has no role")
        text = content_text(message.get("content"))
        if text is None:
            raise NotAText(f"turn {number} holds {_kind(message['content'])}, which is no text")
        turn = {**message, "role": "system" if role in SYSTEM_ROLES else role, "content": text}
        if not message.get("tool_calls"):
            turn.pop("tool_calls", None)
        if turns and _one_turn(turns[-1], turn):
            turns[-1]["content"] += BETWEEN + text
        else:
            turns.append(turn)
    return turns


def _one_turn(before: Mapping[str, Any], turn: Mapping[str, Any]) -> bool:
    plain = all(one.keys() == {"role", "content"} for one in (before, turn))
    return plain and before["role"] == turn["role"] and turn["role"] in JOINED


def _kind(content: Any) -> str:
    """What the first part that is no text calls itself."""
    for part in content if isinstance(content, list) else []:
        if content_text([part]) is None:
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            return f"a part of kind {str(kind)[:40]!r}"
    return "a part"
