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
    half: str | None
    """am or pm where it is said."""
    hour: str


_AM_BEFORE = "上午|午前|早上|凌晨|清晨|सुबह"
_PM_BEFORE = "下午|午後|晚上|傍晚|夜|दोपहर|शाम|रात"
_AM_AFTER = (
    r"a\.?m\b\.?|in the morning|morgens|vormittags|du matin|de la mañana|a\. ?m\.|صباحا|صباحًا|ص"
)
_PM_AFTER = (
    r"p\.?m\b\.?|in the (?:afternoon|evening)|at night|nachmittags|abends"
    r"|de l'après-midi|du soir|de la (?:tarde|noche)|p\. ?m\.|مساء|مساءً|عصرا|عصرًا|م"
)
_TIME = re.compile(
    rf"(?:(?P<am>{_AM_BEFORE})|(?P<pm>{_PM_BEFORE}))? ?(?<![\d.,:])(?P<hour>\d\d?)"
    r"(?:(?P<sign>:| ?h ?(?=[0-5]\d(?!\d))|\.(?=[0-5]\d(?: uhr| ?[ap]\.?m\b)))(?P<minute>[0-5]\d)(?P<second>:[0-5]\d)?(?!\d)"
    r"(?P<clock> ?(?:uhr|h)\b)?"
    r"|(?P<named> ?(?:h\b|uhr\b|o'clock| heures?\b|[点點時时](?!间|間)| ?बजे))(?: ?(?P<past>[0-5]\d)(?!\d)分?|(?P<halfpast>半))?)?"
    rf"(?: ?(?:(?P<am2>{_AM_AFTER})|(?P<pm2>{_PM_AFTER}))(?![^\W_]))?"
)


def times(text: str) -> Iterator[Clocked]:
    """Times of day of a plain text, in order."""
    for match in _TIME.finditer(text):
        part = match.groupdict()
        half = "am" if part["am"] or part["am2"] else "pm" if part["pm"] or part["pm2"] else None
        if not (half or part["sign"] or part["named"]):
            continue
        hour = int(part["hour"])
        minute = 30 if part["halfpast"] else int(part["minute"] or part["past"] or 0)
        if hour > 24 or (half and not part["am"] and not part["pm"] and hour > 12 and part["named"] is None and part["sign"] is None):
            continue
        open_hour = half is None and bool(part["named"])
        minutes = frozenset(_minutes(hour, minute, half, open_hour=open_hour))
        yield Clocked(match.start("hour"), match.end(), minutes, half, part["hour"])


def _minutes(hour: int, minute: int, half: str | None, *, open_hour: bool) -> Iterator[int]:
    """Minutes since midnight; "3 o'clock" may be at night and in the afternoon."""
    if half == "pm" and hour < 12:
        hour += 12
    elif half == "am" and hour == 12:
        hour = 0
    yield (hour * 60 + minute) % _DAY
    if open_hour and hour <= 12:
        yield (hour * 60 + minute + NOON) % _DAY
