"""What a record may hold so that both databases can store it.

Not here: what a record means (``records.py``).
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

# Widest integer column of PostgreSQL that the tables use.
MOST_INT = 2**31 - 1
# Of US dollars, milliseconds and seconds: larger ones are mistakes, and sums of them infinite.
MOST_AMOUNT = 1e9
# PostgreSQL indexes no longer key: a third of a page.
MOST_ID_BYTES = 2000
# Deeper JSON ends in a recursion error somewhere, here or in whoever reads the store.
MOST_NESTED = 100
# A request of the gateway has 32 MiB at most; JSON of its text may be twice as long.
MOST_LINE_BYTES = 64 * 1024**2
# Dates outside of these years are mistakes, and frames cannot hold them.
YEARS = (1970, 2200)
# Clocks differ, and a date without a time may be tomorrow's somewhere.
AHEAD = dt.timedelta(days=1)


def unstorable(value: Any, place: str = "", depth: int = 0) -> str | None:
    """Why a JSON value cannot be stored, with the place in it; None if it can."""
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place or 'record'}: {value} is no number that can be stored"
    if not isinstance(value, dict | list):
        return None
    if depth == MOST_NESTED:
        return f"{place.partition('.')[0] or 'record'}: nested deeper than {MOST_NESTED} levels"
    for name, item in _items(value):
        inside = f"{place}.{name}" if place else str(name)
        if isinstance(name, str) and (why := _text(name, place)):
            return why
        if why := unstorable(item, inside, depth + 1):
            return why
    return None


def too_long(name: str, text: str | None) -> str | None:
    """Why an id cannot be stored: indexes take so many bytes."""
    if text is None or len(text.encode()) <= MOST_ID_BYTES:
        return None
    return f"{name}: longer than {MOST_ID_BYTES} bytes"


def not_yet(moment: dt.datetime) -> str | None:
    """Why feedback of this moment counts on nothing: it would be the newest word for ever."""
    if moment <= dt.datetime.now(dt.UTC) + AHEAD:
        return None
    return f"ts: {moment.isoformat()} lies in the future"


def _items(value: dict[Any, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    return iter(value.items() if isinstance(value, dict) else enumerate(value))


def _text(text: str, place: str) -> str | None:
    place = place or "record"
    if "\0" in text:
        return f"{place}: holds a NUL character, which PostgreSQL cannot store"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{place}: holds half a character at {error.start} (a surrogate), not valid text"
    return None
