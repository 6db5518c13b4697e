"""Times of day: 3 pm, 15:00, 15 Uhr, 15h30, 下午3点, शाम 3 बजे.

Not here: spans of time such as 2 h, which are numbers with a unit, too (``number_values.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

NOON = 12 * 60
_DAY = 24 * 60


class Clocked(NamedTuple):
    """A time where it stands, in minutes since midnight; without am or pm it may be two."""

    start: int
    end: int
    minutes: frozenset[int]
    hour: int
    half: str | None
    """am or pm where it is said."""


_RUN = re.compile(r"\d+")
_BEFORE = re.compile(
    r"(?:(上午|午前|早上|凌晨|清晨|सुबह)|(下午|午後|晚上|傍晚|夜|दोपहर|शाम|रात)) ?(?:के |को )?$"
)
_AM = r"a\.? ?m\b\.?|in the morning|morgens|vormittags|du matin|de la mañana|صباح[اً]{1,2}|ص"
_PM = (
    r"p\.? ?m\b\.?|in the (?:afternoon|evening)|at night|nachmittags|abends|de l'après-midi"
    r"|du soir|de la (?:tarde|noche)|مساء[اً]{0,2}|عصر[اً]{1,2}|م"
)
_TIME = re.compile(
    r"\d\d?(?:"
    r"(?P<sign>:| ?h ?|\.(?=\d\d(?: uhr| ?[ap]\.?m\b)))(?P<minute>[0-5]\d)(?::[0-5]\d)?(?!\d)"
    r"(?: ?(?:uhr|h)\b)?"
    r"|(?P<named> ?(?:h\b|uhr\b|o'clock|heures?\b|[点點時时](?![间間])|बजे))"
    r"(?: ?(?P<past>[0-5]\d)(?!\d)分?|(?P<half>半))?)?"
    rf"(?: ?(?:(?P<am>{_AM})|(?P<pm>{_PM}))(?![^\W_]))?"
)
# The first sign behind an hour.
_NEXT = frozenset(": .huoapम点點時时बصمع")


def times(text: str) -> Iterator[Clocked]:
    """Times of day of a plain text, in order."""
    end = 0
    for run in _RUN.finditer(text):
        start, stop = run.span()
        if start < end or stop - start > 2 or text[stop : stop + 1] not in _NEXT:
            continue
        if start and text[start - 1] in ".,:" and text[start - 2 : start - 1].isdigit():
            continue
        if (clocked := _at(text, start)) is not None:
            end = clocked.end
            yield clocked


def _at(text: str, start: int) -> Clocked | None:
    match = _TIME.match(text, start)
    if match is None:
        return None
    half = "am" if match["am"] else "pm" if match["pm"] else None
    if half is None and not text.isascii() and (before := _BEFORE.search(text[:start][-10:])):
        half = "am" if before[1] else "pm"
    named = match["named"] is not None
    if not (named or match["sign"] or half):
        return None
    hour = int(_digits(match[0]))
    minute = 30 if match["half"] else int(match["minute"] or match["past"] or 0)
    if hour > 24 or not match.end() > start + 1:
        return None
    minutes = frozenset(_minutes(hour, minute, half, two=named and half is None))
    return Clocked(start, match.end(), minutes, hour, half)


def _digits(text: str) -> str:
    return text[:2] if text[1:2].isdigit() else text[:1]


def _minutes(hour: int, minute: int, half: str | None, *, two: bool) -> Iterator[int]:
    """Minutes since midnight; "3 o'clock" may be at night and in the afternoon."""
    if half == "pm" and hour < 12:
        hour += 12
    elif half == "am" and hour == 12:
        hour = 0
    yield (hour * 60 + minute) % _DAY
    if two and hour <= 12:
        yield (hour * 60 + minute + NOON) % _DAY
