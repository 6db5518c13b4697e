"""Numbers in words and weekdays of an answer that its source speaks against.

Not here: facts in digits (``answers/facts.py``). "Three things:" counts what the answer itself
lists, so a small number in words is wrong only where the source counts the same thing otherwise.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from loop_pipeline.answers.readings.calendar_names import WEEKDAYS
from loop_pipeline.answers.readings.number_words import Worded, number_words
from loop_pipeline.answers.readings.source_facts import (
    SourceFacts,
    all_worded,
    noun_after,
    words_of,
)
from loop_pipeline.answers.readings.weekdays import has_range, weekdays

# Where a source says one of these, days follow from it that it does not name.
_RELATIVE_WORDS = (
    "today tomorrow yesterday tonight daily every weekend weekdays heute morgen gestern"
    " täglich werktags wochenende demain hier aujourd quotidien hoy mañana ayer diario غدا"
    " غدًا اليوم أمس आज कल रोज़ 今天 明天 昨天 每天 今日 明日 昨日 毎日 平日 周末 週末"
)
_RELATIVE = frozenset(_RELATIVE_WORDS.split())
_DAYS = frozenset(name for name in WEEKDAYS if name.isalpha())


def worded_spans(told: str, source: SourceFacts) -> Iterator[tuple[int, int]]:
    """Where a plain text has numbers in words or weekdays that cannot be right."""
    if told.isascii():
        words = words_of(told)
        numbers = not words.isdisjoint(number_words()) or "tausend" in told
        named = not words.isdisjoint(_DAYS)
    else:
        numbers = named = True
    if numbers:
        yield from (word[:2] for word in all_worded(told) if not _number_fits(word, told, source))
    if named:
        yield from (
            (start, end)
            for start, end, day in weekdays(told)
            if not source.stands(told[start:end]) and not _weekday_fits(day, source)
        )


def _number_fits(word: Worded, told: str, source: SourceFacts) -> bool:
    if word.value < 2 or source.stands_alone(told[word.start : word.end]):
        return True
    if source.knows({str(word.value)}):
        return True
    if word.sure:
        return False
    noun = noun_after(told, word.end)
    return noun is None or noun not in source.counted


def _weekday_fits(day: int, source: SourceFacts) -> bool:
    """Whether the source names the day, a date on that day, days from one to another, or none."""
    if day in source.weekdays or day in _computed(source):
        return True
    if not source.weekdays and not _computed(source):
        return True
    relative = not _RELATIVE.isdisjoint(source.words) or any(
        word in source.plain for word in _RELATIVE if not word.isascii()
    )
    return relative or has_range(source.plain)


def _computed(source: SourceFacts) -> frozenset[int]:
    return frozenset(
        dt.date(d.year, d.month, d.day).weekday()
        for d in source.days
        if d.year is not None and d.day is not None
    )
