"""Which tags an answer names, however they are listed: bullets, numbers, lines, JSON, semicolons.

Not here: one label (``label_forms.py``), and whether a list keeps its contract (``contract.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from loop_pipeline.answers.forms.label_forms import (
    MOST_CHARS,
    Labels,
    label_in,
    plain,
    without_layers,
)

NONE = "none"
# Each kind of separator holds parts that the next may part again.
SEPARATORS = tuple(
    re.compile(one)
    for one in (
        *(r"\n", r"\s+(?=#)", r"[,;|，、،；]", r"\s/\s", r"/"),
        r"\s(?:and|und|et|y|&|و|और)\s|和|と",
    )
)


def tags_in(answer: str, labels: Labels) -> list[str] | None:
    """The tags that an answer names, each once, in its order and the contract's spelling.

    Returns:
        None if it is not certain that they are all that is said; empty for "none" and "[]".
    """
    if len(answer) > MOST_CHARS:
        return None
    for bare in without_layers(answer):
        if plain(bare) == NONE or bare == "[]":
            return []
        found = _in_json(bare, labels)
        if found is None:
            found = _split(bare, labels, SEPARATORS)
        if found:
            return found if len(set(found)) == len(found) else None
    return None


def _in_json(text: str, labels: Labels) -> list[str] | None:
    if text[:1] not in "{[":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and len(value) == 1:
        [value] = value.values()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return _all([label_in(one, labels, explained=False) for one in value])


def _split(text: str, labels: Labels, separators: Sequence[re.Pattern[str]]) -> list[str] | None:
    """The tags of a text; a whole that is a label is never parted, whatever stands in it."""
    if not text.strip():
        return []
    if (label := label_in(text, labels, explained=False)) is not None:
        return [label]
    for place, separator in enumerate(separators):
        if len(parts := separator.split(text)) > 1:
            rest = separators[place + 1 :]
            found = [_split(part, labels, rest) for part in parts]
            known = [tags for tags in found if tags is not None]
            return [tag for tags in known for tag in tags] if len(known) == len(found) else None
    return None


def _all(found: Sequence[str | None]) -> list[str] | None:
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None
