"""The text of a request, the name of its template, and its key for repeats.

Not here: what a request means (``groups``).

The records of the trace format are in ``records``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from loop_pipeline.hashing import digest


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
    """Names the prompt template: a digest of the system messages."""
    return digest(*(str(m["content"]) for m in messages if m.get("role") == "system"))[:16]


def dedup_key(messages: Sequence[Mapping[str, Any]]) -> str:
    """Equal for requests that differ only in case, spacing or closing punctuation."""
    words = [re.sub(r"\s+", " ", str(m["content"])).strip(" .!?").lower() for m in messages]
    return digest(*words)[:32]
