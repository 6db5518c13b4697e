"""One sign for each meaning: digits of all scripts, full-width signs, kinds of blanks.

Not here: what the digits say (``number_values.py``). Every sign stays in its place, so that a
place in the plain text is the same place in the text as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_SIGNS = {
    # Full-width forms, but for the comma: between numbers it parts clauses, not thousands.
    **{wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F) if wide != ord("，")},
    # Blanks that stand between thousands or before a unit.
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u202f\u3000"), " "),
    **dict.fromkeys(map(ord, "’‘ʼ´"), "'"),
    **dict.fromkeys(map(ord, "‐‑‒–—−〜～"), "-"),
    ord("٫"): ".",
    ord("٬"): ",",
    # The only capital whose small form is two signs.
    ord("İ"): "I",
}
_WIDE_THOUSANDS = re.compile(r"(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")


class _Plain(dict[int, str | int]):
    """The plain sign for each, looked up when it is first met."""

    def __missing__(self, code: int) -> str | int:
        digit = unicodedata.decimal(chr(code), None)
        self[code] = code if digit is None else str(digit)
        return self[code]


_PLAIN = _Plain(_SIGNS)


def plain(text: str) -> str:
    """The text in small letters with ASCII digits and signs; every sign in its place."""
    if text.isascii():
        return text.lower()
    if "，" in text:
        text = _WIDE_THOUSANDS.sub(",", text)
    return text.translate(_PLAIN).lower()


def without(text: str, places: Iterable[tuple[int, int]]) -> str:
    """The text with blanks at these places (start, end); all others stay where they are."""
    parts: list[str] = []
    done = 0
    for start, end in sorted(places):
        parts += [text[done:start], " " * (end - start)]
        done = end
    return "".join([*parts, text[done:]]) if parts else text
