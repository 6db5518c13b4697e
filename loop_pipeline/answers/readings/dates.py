"""Dates as they are written in eight languages, each with the days it may name.

Not here: times of day (``clock_times.py``); whether a day stands in a source (``facts.py``).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import NamedTuple

from loop_pipeline.answers.readings.calendar_names import MONTHS, WEEKDAYS
from loop_pipeline.answers.readings.chinese_numerals import chinese_value


class Day(NamedTuple):
    """A date; what is not said is None."""

    year: int | None
    month: int
    day: int | None

    def fits(self, other: Day) -> bool:
        """Whether no part that both name differs."""
        return self.month == other.month and all(
            a is None or b is None or a == b for a, b in zip(self, other, strict=True)
        )


class Dated(NamedTuple):
    """A date where it stands, with all days it may name: 9/4 has two."""

    start: int
    end: int
    days: tuple[Day, ...]


_MONTH = "|".join(sorted(map(re.escape, MONTHS), key=len, reverse=True))
# Vowel signs of Hindi are no letters to ``re``, so a word's end is said by hand.
_NAME = rf"(?P<{{0}}>{_MONTH})(?![^\W_])(?![\u0900-\u0963])\.?"
_ORDER = r"(?:st|nd|rd|th|er|re|\.|º|°|ª)?"
_OF = r"(?:of |de |del |d')?"
_LINK = r"[ \u200f]?"
_SIGN = r"[0-9〇零一二三四五六七八九十]"
_DATE = re.compile(
    # 2026-09-04, 2026/9/4, 2026. 9. 4.
    rf"(?<![\d.])(?P<y1>\d{{4}})(?P<s1>[-/.]){_LINK}(?P<m1>\d\d?)(?P=s1){_LINK}(?P<d1>\d\d?)(?!\d)"
    # 04.09.2026, 4. 9. 2026, 9/4/26
    rf"|(?<![\d.,/])(?P<a2>\d\d?)\u200f?(?P<s2>[-/.]){_LINK}(?P<b2>\d\d?)\u200f?(?P=s2){_LINK}"
    r"(?P<y2>\d{4}|\d\d)(?![\d,])(?!\.\d)"
    # 4 September 2026, the 4th of September, 4 de septiembre de 2026, 4-Sep-26
    rf"|(?<!\d)(?P<d3>\d\d?){_ORDER}[ -]?{_OF}{_NAME.format('n3')}"
    rf"(?:[ -]?,? ?{_OF}(?P<y3>\d{{4}}|'?\d\d(?=\b))(?![\d:]))?"
    # September 4th, 2026
    rf"|(?<![^\W_]){_NAME.format('n4')} ?(?:the )?(?P<d4>\d\d?)(?:st|nd|rd|th)?(?![\d:])(?:,? (?P<y4>\d{{4}})(?!\d))?"
    # September 2026
    rf"|(?<![^\W_]){_NAME.format('n5')},? ?{_OF}(?P<y5>\d{{4}})(?!\d)"
    # 2026年9月4日, 九月四日, 2026年9月
    rf"|(?:(?P<y6>{_SIGN}{{4}}|\d\d)年 ?)?(?P<m6>{_SIGN}{{1,3}}) ?月 ?(?P<d6>{_SIGN}{{1,3}}) ?[日号號]"
    rf"|(?P<y7>{_SIGN}{{4}})年 ?(?P<m7>{_SIGN}{{1,3}}) ?月"
    # 4.9., 9/4
    r"|(?<![\d./-])(?P<a8>\d\d?)(?P<s8>[./])(?P<b8>\d\d?)(?:(?<=\.\d\d)\.|(?<=\.\d)\.|(?<=/\d\d)|(?<=/\d))(?![\d/])"
)

# "Fridays" too; Chinese and Japanese stand between other signs.
WEEKDAY = re.compile(
    rf"(?<![^\W_])({'|'.join(n for n in WEEKDAYS if n < chr(0x3000))})(?:e?s)?(?![^\W_])(?![\u0900-\u0963])"
    rf"|({'|'.join(n for n in WEEKDAYS if n > chr(0x3000))})"
)


def dates(text: str) -> Iterator[Dated]:
    """Dates of a plain text, in order; what is no day of a calendar is no date."""
    for match in _DATE.finditer(text):
        found = tuple(day for day in _days(match.groupdict()) if _exists(day))
        if found:
            yield Dated(match.start(), match.end(), found)


def weekdays(text: str) -> Iterator[tuple[int, int, int]]:
    """Weekdays that a plain text names: start, end, and the day as ``datetime`` counts them."""
    for match in WEEKDAY.finditer(text):
        yield match.start(), match.end(), WEEKDAYS[match[1] or match[2]]


def _days(parts: dict[str, str | None]) -> Iterator[Day]:
    """All days that the parts of one way to write a date may name."""
    if parts["y1"]:
        yield _day(parts["y1"], parts["m1"], parts["d1"])
    elif parts["a2"]:
        yield _day(parts["y2"], parts["b2"], parts["a2"])
        if parts["s2"] != ".":  # 4.9.2026 names the day first wherever it is written
            yield _day(parts["y2"], parts["a2"], parts["b2"])
    elif parts["a8"]:
        yield _day(None, parts["b8"], parts["a8"])
        if parts["s8"] != ".":
            yield _day(None, parts["a8"], parts["b8"])
    elif parts["m6"]:
        yield _day(parts["y6"], parts["m6"], parts["d6"])
    elif parts["m7"]:
        yield _day(parts["y7"], parts["m7"], None)
    else:
        kind = next(kind for kind in "345" if parts[f"n{kind}"])
        month = str(MONTHS[str(parts[f"n{kind}"])])
        yield _day(parts[f"y{kind}"], month, parts.get(f"d{kind}"))


def _day(year: str | None, month: str | None, day: str | None) -> Day:
    when = _int(year)
    if when is not None and when < 100:
        when += 2000 if when < 70 else 1900
    return Day(when, _int(month) or 0, _int(day))


def _int(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.lstrip("'")
    return int(text) if text.isdigit() and text.isascii() else chinese_value(text)


def _exists(day: Day) -> bool:
    try:
        dt.date(day.year or 2000, day.month, day.day if day.day is not None else 1)
    except ValueError:
        return False
    return True
