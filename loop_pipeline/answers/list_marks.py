"""Marks that number the points of a list: 1. 1) (1) **1.** ① 1️⃣ a) — they claim nothing.

Not here: numbers that do (``facts.py``).
"""

from __future__ import annotations

import re

from loop_pipeline.answers.readings.calendar_names import MONTHS

# "3. Mai" and "3. September" open a sentence with a date; "1. May I" does not.
_DATE = "|".join(re.escape(name) for name in MONTHS if name != "may" and name.isalpha())
_BEFORE = r"[^\S\n]*(?:[>#*•·+-]+[^\S\n]+)*"
_BOLD = r"(?:\*{1,3}|_{1,3})"
_MARK = re.compile(
    rf"{_BEFORE}{_BOLD}?"
    r"(?:[(（\[]?(?:\d|(?!0)\d\d|[a-z]|[ivx]{1,4})[.)\]:．）、](?!\d)|\d{1,2}(?:\.\d{1,2}){1,3}\.(?!\d))"
    rf"(?![^\S\n]+(?:{_DATE})\b){_BOLD}?(?=\s|$|(?<=[．）、*_]))"
    rf"|{_BEFORE}{_BOLD}\d\d?{_BOLD}[.):](?!\d)",
    re.IGNORECASE,
)
_KEYCAP = re.compile(r"[\d*#]\ufe0f?\u20e3")


def without_list_marks(text: str) -> str:
    """Blanks where "1." and the like number the points of a list; places stay as they are."""
    if "\u20e3" in text:
        text = _KEYCAP.sub(lambda match: " " * len(match[0]), text)
    parts, done, line = [], 0, 0
    while line >= 0:
        if match := _MARK.match(text, line):
            parts += [text[done : match.start()], " " * (match.end() - match.start())]
            done = match.end()
        line = text.find("\n", line) + 1 or -1
    return "".join([*parts, text[done:]]) if parts else text
