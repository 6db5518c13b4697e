"""Marks that number the points of a list: 1. 1) (1) **1.** ① 1️⃣ a) — they claim nothing.

Not here: numbers that do (``facts.py``).
"""

from __future__ import annotations

import re

from loop_pipeline.answers.readings.calendar_names import MONTHS

# "3. Mai" and "3. September" open a sentence with a date; "1. May I" does not.
_DATE = "|".join(re.escape(name) for name in MONTHS if name != "may" and name.isalpha())
LIST_MARK = re.compile(
    r"^[^\S\n]*(?:[>#*•·+-]+[^\S\n]+)*(?:\*{1,3}|_{1,3})?"
    r"(?:[(（\[]?(?:\d{1,3}|[a-z]|[ivx]{1,4})[.)\]:．）、](?!\d)|\d{1,2}(?:\.\d{1,2}){1,3}\.(?!\d))"
    rf"(?![^\S\n]+(?:{_DATE})\b)(?:\*{{1,3}}|_{{1,3}})?(?=\s|(?<=[．）、])|(?<=\*)|(?<=_)|$)"
    r"|^[^\S\n]*(?:[>#*•·+-]+[^\S\n]+)*(?:\*{1,3}|_{1,3})\d{1,3}(?:\*{1,3}|_{1,3})[.):](?!\d)"
    r"|\d\ufe0f?\u20e3",
    re.MULTILINE | re.IGNORECASE,
)


def without_list_marks(text: str) -> str:
    """Blanks where "1." and the like number the points of a list; places stay as they are."""
    return LIST_MARK.sub(_blank, text)


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])
