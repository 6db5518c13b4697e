"""The JSON in an answer that stands in a fence, or between sentences.

Not here: whether it fits a schema (``json_schema.py``).
"""

from __future__ import annotations

import json
import re
from typing import Any

# A block of code around the whole answer.
_FENCE = re.compile(
    r"(?P<fence>`{3,}|~{3,})(?:\w*[ \t]*\n|(?![`~]))(?P<inside>.*)(?P=fence)", re.DOTALL
)
_OPENING = re.compile(r"[{\[]")
_BRACKETS = re.compile(r"[{}\[\]]")
# Longer answers are no JSON with a sentence before it.
MOST_CHARS = 1_000_000


class NotJSON(ValueError):
    """There is no JSON in a text, or more than one; the text says which."""


def read_json(text: str, **options: Any) -> tuple[Any, str | None]:
    """The value that an answer is, or holds.

    Args:
        text: the answer.
        options: of ``json.loads``.

    Returns:
        The value, and the bare JSON if it stands in a fence or between sentences, else None.

    Raises:
        NotJSON: there is none, or it cannot be told which of several is meant.
    """
    options = {"parse_constant": _not_json, **options}
    try:
        return json.loads(text, **options), None
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {error!s:.100}"
    for bare in _candidates(text):
        try:
            return json.loads(bare, **options), bare
        except (ValueError, RecursionError):
            continue
    raise NotJSON(problem)


def _candidates(text: str) -> list[str]:
    """Where JSON may stand; none if something else in the text looks like JSON, too."""
    if len(text) > MOST_CHARS:
        return []
    plain = text.replace("\ufeff", "").strip()
    fenced = _FENCE.fullmatch(plain)
    whole = fenced["inside"].strip() if fenced else plain
    if (start := _OPENING.search(plain)) is None:
        return [whole]
    try:
        _, end = json.JSONDecoder(parse_constant=_not_json).raw_decode(plain, start.start())
    except (ValueError, RecursionError):
        return [whole]
    # A value begins at the first bracket, and no bracket comes after it: what follows "{" may be
    # the inner part of a value that was cut off, and of two values nobody knows which is meant.
    return [whole] if _BRACKETS.search(plain, end) else [whole, plain[start.start() : end]]


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")
