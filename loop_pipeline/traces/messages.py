"""The text of a request, the name of its template, and its key for repeats.

Not here: what a request means (``groups``).

The records of the trace format are in ``records``.
"""

from __future__ import annotations

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
        content = message.get("content")
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else []
        texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
        whole = len(texts) == len(parts) and all(isinstance(t, str) for t in texts)
        return "\n".join(str(t) for t in texts) if whole else ""
    return ""


MAX_CHARS = 20_000  # read of one request; more says nothing about its task


def template_hash(messages: Sequence[Mapping[str, Any]]) -> str:
    """Names the prompt template: a digest of the system messages, whichever role they have."""
    return _template(
        tuple(str(m.get("content")) for m in messages if m.get("role") in SYSTEM_ROLES)
    )


@lru_cache(maxsize=256)  # few templates, in every request
def _template(system: tuple[str, ...]) -> str:
    return digest(*system)[:16]


def dedup_key(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> str:
    """Equal for requests that differ only in case, spacing or closing punctuation.

    Tools, and calls of tools in the conversation, make another request; the vendors' ids of calls
    do not.
    """
    words = [" ".join(str(m.get("content")).split()).strip(" .!?").lower() for m in messages]
    key = digest(*words)[:32]
    calls = [_without_ids(m["tool_calls"]) for m in messages if m.get("tool_calls")]
    if not calls and not tools:
        return key
    return digest("tools", key, canonical([calls, list(tools or ())]))[:32]


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
