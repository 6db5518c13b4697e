"""Dates as they are written in eight languages, each with the days it may name.

Not here: times of day (``clock_times.py``); weekdays (``weekdays.py``); whether a day stands in a
source (``facts.py``).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import NamedTuple

from loop_pipeline.answers.readings.calendar_names import MONTHS
from loop_pipeline.answers.readings.chinese_numerals import chinese_value
from loop_pipeline.answers.readings.signs import without


class Day(NamedTuple):
    """A date; what is not said is None."""

    year: int | None
    month: int
    day: int | None


class Dated(NamedTuple):
    """A date where it stands, with all days it may name: 9/4 has two."""

    start: int
    end: int
    days: tuple[Day, ...]
    named: bool
    """Whether it names its month in words."""


_RUN = re.compile(r"\d+")
# Right-to-left marks stand between the parts of Arabic dates; vowel signs of Hindi are no letters.
_LINK = r"[ \u200e\u200f]?"
_WORD = r"(?:[^\W\d_]|[\u0900-\u0963]){1,16}"
_OF = r"(?:of |de |del |d'|من )?"
# 2026-09-04, 2026/9/4, 2026. 9. 4.
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.]){_LINK}(\d\d?){_LINK}\2{_LINK}(\d\d?)(?!\d)")
# 04.09.2026, 4. 9. 2026, 9/4/26
_YEAR_LAST = re.compile(
    rf"(\d\d?){_LINK}([-/.]){_LINK}(\d\d?){_LINK}\2{_LINK}(\d{{4}}|\d\d)(?![\d,])(?!\.\d)"
)
# 4.9., 9/4
_NO_YEAR = re.compile(r"(\d\d?)(?:(/)(\d\d?)(?![\d/])|\. ?(\d\d?)\.(?!\d))")
# 4 September 2026, the 4th of September, 4 de septiembre de 2026, 4-Sep-26
_DAY_FIRST = re.compile(
    rf"(\d\d?)(?:st|nd|rd|th|er|re|\.|º|°|ª)?[ -]?{_OF}({_WORD})(?: (الثاني|الأول))?[.॰]?"
    rf"(?:[ -]?[,،]? ?{_OF}(\d{{4}}|'\d\d|(?<=-)\d\d)(?!\d))?"
)
# Behind the name of a month: September 4th, 2026; September 2026
_BEHIND = re.compile(
    r"(\d\d?)(?:st|nd|rd|th)?(?![\d:])(?![.,]\d)(?:,? (\d{4})(?!\d))?|(\d{4})(?!\d)"
)
_MONTH_BEFORE = re.compile(rf"({_WORD})[.॰]?[,،]? ?(?:the |of |de |del )?$")
_LONGEST = 24  # signs of a month's name and what stands between it and the number
_SIGN = r"[0-9〇零一二三四五六七八九十]"
# 2026年9月4日, 九月四日, 2026年9月
_CHINESE = re.compile(
    rf"(?:({_SIGN}{{4}}|\d\d)年 ?)?({_SIGN}{{1,3}}) ?月(?: ?({_SIGN}{{1,3}}) ?[日号號])?"
)


def dates(text: str) -> Iterator[Dated]:
    """Dates of a plain text, in order; what is no day of a calendar is no date."""
    end = 0
    if "月" in text:
        found = [*_chinese(text)]
        yield from found
        text = without(text, [dated[:2] for dated in found])
    for run in _RUN.finditer(text):
        start, stop = run.span()
        if start < end or stop - start > 4:
            continue
        dated = _at(text, start, stop)
        if dated is not None:
            end = dated.end
            yield dated


def _at(text: str, start: int, stop: int) -> Dated | None:
    """The date whose first number starts here."""
    digits = stop - start
    before, after = text[start - 1 : start], text[stop : stop + 1]
    if digits == 3 or (before and before in ".,/'" and text[start - 2 : start - 1].isdigit()):
        return None
    if after and after in "-/.\u200f" and (dated := _in_digits(text, start, digits)) is not None:
        return dated
    if digits <= 2 and (dated := _day_first(text, start)) is not None:
        return dated
    return (
        _month_first(text, start) if before and (before in " .,,-॰" or before.isalpha()) else None
    )


def _in_digits(text: str, start: int, digits: int) -> Dated | None:
    if digits == 4:
        match = _YEAR_FIRST.match(text, start)
        return _dated(match, _day(match[1], match[3], match[4])) if match else None
    if match := _YEAR_LAST.match(text, start):
        day_first = _day(match[4], match[3], match[1])
        if match[2] == ".":  # names the day first wherever it is written
            return _dated(match, day_first)
        return _dated(match, day_first, _day(match[4], match[1], match[3]))
    if (match := _NO_YEAR.match(text, start)) is None:
        return None
    if match[2] is None:
        return _dated(match, _day(None, match[4], match[1]))
    return _dated(match, _day(None, match[3], match[1]), _day(None, match[1], match[3]))


def _day_first(text: str, start: int) -> Dated | None:
    match = _DAY_FIRST.match(text, start)
    if match is None:
        return None
    month = MONTHS.get(f"{match[2]} {match[3]}") or MONTHS.get(match[2])
    return _dated(match, _day(match[4], str(month), match[1]), named=True) if month else None


def _month_first(text: str, start: int) -> Dated | None:
    first = max(0, start - _LONGEST)
    before = _MONTH_BEFORE.search(text[first:start])
    month = MONTHS.get(before[1]) if before else None
    match = _BEHIND.match(text, start)
    if before is None or month is None or match is None:
        return None
    days = (_day(match[2] or match[3], str(month), match[1]),)
    return _dated(match, *days, start=first + before.start(), named=True)


def _chinese(text: str) -> Iterator[Dated]:
    for match in _CHINESE.finditer(text):
        if (match[1] or match[3]) and (
            dated := _dated(match, _day(match[1], match[2], match[3]), named=True)
        ):
            yield dated


def _dated(
    match: re.Match[str], *days: Day, start: int | None = None, named: bool = False
) -> Dated | None:
    found = tuple(day for day in days if _exists(day))
    start = match.start() if start is None else start
    return Dated(start, match.end(), found, named) if found else None


def _day(year: str | None, month: str | None, day: str | None) -> Day:
    when = _int(year)
    if when is not None and when < 100:
        when += 2000 if when < 70 else 1900
    return Day(when, _int(month) or 0, _int(day))


def _int(text: str | None) -> int | None:
    if text is None:
        return None
    text = text.lstrip("'")
    return int(text) if text.isascii() else chinese_value(text)


def _exists(day: Day) -> bool:
    try:
        dt.date(day.year or 2000, day.month, 1 if day.day is None else day.day)
    except ValueError:
        return False
    return True
