"""Weekdays of a text, by their names in eight languages.

Not here: dates (``dates.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from loop_pipeline.answers.readings.calendar_names import WEEKDAYS

_SPACED = [name for name in WEEKDAYS if name < "\u3000"]
_SPACELESS = [name for name in WEEKDAYS if name > "\u3000"]
# "Fridays" too; Chinese and Japanese names stand between other signs.
WEEKDAY = (
    rf"(?<![^\W_])(?:{'|'.join(_SPACED)})(?:e?s)?(?![^\W_])(?![\u0900-\u0963])"
    rf"|(?:{'|'.join(_SPACELESS)})"
)
_TO = r" ?(?:to|through|until|till|bis|à|au|a|-|至|到|から|إلى|से) ?"
_DAY = re.compile(WEEKDAY)
_FROM_TO = re.compile(rf"(?:{WEEKDAY}){_TO}(?:{WEEKDAY})")


def weekdays(text: str) -> Iterator[tuple[int, int, int]]:
    """Weekdays that a plain text names: start, end, and the day as ``datetime`` counts them."""
    for match in _DAY.finditer(text):
        name = match[0]
        day = WEEKDAYS.get(name)
        day = WEEKDAYS.get(name.removesuffix("s")) if day is None else day
        yield *match.span(), WEEKDAYS[name.removesuffix("es")] if day is None else day


def has_range(text: str) -> bool:
    """Whether a plain text says "Monday to Friday"."""
    return _FROM_TO.search(text) is not None
