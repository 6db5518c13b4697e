"""The text of a request, the name of its template, and its key for repeats.

Not here: what a request means (``groups``).

The records of the trace format are in ``records``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from loop_pipeline.hashing import canonical, digest

# OpenAI's newer models call the system prompt "developer".
SYSTEM_ROLES = ("system", "developer")


def request_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the user asked last, without system prompt and history.

    Returns:
        The text, or "" if there is none or part of it is not text (an image, a file).
    """
    for message in reversed(messages):
        if message.get("role") != "user":
            continue
        return content_text(message.get("content")) or ""
    return ""


def content_text(content: Any) -> str | None:
    """What a turn says as one text, also where it comes in parts; None if a part is no text."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        return None
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") in TEXT_PARTS else None
        for part in content
    ]
    if not all(isinstance(text, str) for text in texts):
        return None
    return "\n".join(map(str, texts))


def source_text(messages: Sequence[Mapping[str, Any]], context: str | None = None) -> str:
    """Everything an answer may rest on: all turns, calls of tools and what came back, the context.

    Args:
        messages: of the request, whatever their role.
        context: that the request was answered from, if it is kept apart.
    """
    parts = [part for message in messages for part in _told(message)]
    return "\n".join([*parts, context] if context else parts)


def _told(message: Mapping[str, Any]) -> list[str]:
    """What one turn says, and the arguments of the tools it calls."""
    parts = _texts(message.get("content"))
    calls = message.get("tool_calls")
    functions = (
        [call.get("function") for call in calls if isinstance(call, dict)]
        if (isinstance(calls, list))
        else []
    )
    for function in (*functions, message.get("function_call")):  # before tools: one call a turn
        if isinstance(function, Mapping):
            parts.append(f"{function.get('name') or ''} {_arguments(function.get('arguments'))}")
    return parts


def _texts(content: Any, depth: int = 0) -> list[str]:
    """Texts of a turn's content; parts are texts, calls of tools, or results that hold parts."""
    if content is None or depth > 2:
        return []
    if not isinstance(content, list):
        return [_arguments(content)]
    found: list[str] = []
    for part in content:
        if isinstance(part, Mapping):
            inner = [part[n] for n in ("text", "input", "content", "output") if part.get(n)]
            for value in inner:
                found += _texts(value, depth + 1)
        elif part is not None:
            found.append(str(part))
    return found


def _arguments(value: Any) -> str:
    """JSON in its own characters: a tool's Chinese argument is Chinese, not escapes."""
    if isinstance(value, str) and "\\u" not in value:
        return value
    try:
        return json.dumps(
            json.loads(value) if isinstance(value, str) else value, ensure_ascii=False
        )
    except (ValueError, TypeError, RecursionError):
        return str(value)


# A part that is a text, in the words of different APIs.
TEXT_PARTS = ("text", "input_text", "output_text")
MAX_CHARS = 20_000  # read of one request; more says nothing about its task


def template_hash(messages: Sequence[Mapping[str, Any]]) -> str:
    """Names the prompt template: a digest of the system messages, whichever role they have."""
    return _template(
        tuple(_said(m.get("content")) for m in messages if m.get("role") in SYSTEM_ROLES)
    )


@lru_cache(maxsize=256)  # few templates, in every request
def _template(system: tuple[str, ...]) -> str:
    return digest(*system)[:16]


def dedup_key(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> str:
    """Equal for requests that differ only in case, spacing or closing punctuation.

    Tools, and calls of tools in the conversation, make another request; the vendors' ids of calls
    do not.
    """
    words = [" ".join(_said(m.get("content")).split()).strip(" .!?").lower() for m in messages]
    key = digest(*words)[:32]
    calls = [_without_ids(m["tool_calls"]) for m in messages if m.get("tool_calls")]
    if not calls and not tools:
        return key
    return digest("tools", key, canonical([calls, list(tools or ())]))[:32]


def without_answer(
    messages: list[dict[str, Any]], output: str, tool_calls: Sequence[Any] | None = None
) -> list[dict[str, Any]]:
    """The request alone where its log ends with the answer, as files for fine-tuning do."""
    last = messages[-1]
    if len(messages) < 2 or last.get("role") != "assistant":
        return messages
    said = answer_text(content_text(last.get("content")) or "", last.get("tool_calls"))
    answer = output or answer_text("", tool_calls)
    same = said.split() == answer.split() or said.split() == answer_text(output, tool_calls).split()
    return messages[:-1] if said.strip() and same else messages


def _said(content: Any) -> str:
    """A turn in its keys: text in parts counts as the text, what is no text as it is written."""
    if isinstance(content, list) and content and (text := content_text(content)) is not None:
        return text
    return str(content)


def answer_text(text: str, tool_calls: Sequence[Any] | None) -> str:
    """An answer as one text: what was said, then the tool calls as canonical JSON, if any."""
    if not tool_calls:
        return text
    return f"{text}\n{canonical(list(tool_calls))}" if text else canonical(list(tool_calls))


def _without_ids(calls: Any) -> Any:
    """Tool calls of a message without the vendors' ids; anything else as it is."""
    if not isinstance(calls, list):
        return calls
    return [
        {k: v for k, v in call.items() if k != "id"} if isinstance(call, dict) else call
        for call in calls
    ]
