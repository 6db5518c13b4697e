"""All facts of a source, each read when the first answer asks for it.

Not here: which facts an answer has (``answers/facts.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import cached_property, lru_cache
from itertools import pairwise

from loop_pipeline.answers.readings.addresses import mails, pages
from loop_pipeline.answers.readings.chinese_numerals import chinese_numbers, chinese_sums
from loop_pipeline.answers.readings.clock_times import NOON, Clocked, times
from loop_pipeline.answers.readings.dates import Day, dates
from loop_pipeline.answers.readings.number_values import NUMBER, fractions, multiplied, readings
from loop_pipeline.answers.readings.number_words import Worded, number_words, worded
from loop_pipeline.answers.readings.signs import plain
from loop_pipeline.answers.readings.weekdays import weekdays

_WORD = re.compile(r"(?:[^\W\d_]|[\u0900-\u0963])+")
_BESIDE = re.compile(r"[^\W\d_]+")
_ASCII_WORD = re.compile(r"[a-z]+")
# 030 1234567, +49 (0)30 1234-567, DE89 3704 0044: groups that are one number however they part.
GROUPS = re.compile(r"(?<![^\W_])\+?[a-z]{0,2}\d[\d ()/.-]{5,}\d(?!\d)")
_NOT_SAID = re.compile(r"\(0\)|\D")
MIN_GROUPED = 7
# Places where a piece is looked at; after these the readings decide, which takes linear time.
TRIED = 20

# Behind a number, past the ending of an ordinal.
_NOUN = re.compile(r"(?:st|nd|rd|th|\.|º|ª|er|e|ème|me)?[ -]?((?:[^\W\d_]|[\u0900-\u0963]){1,24})")
_SPACELESS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
STEM = 4  # signs that tell nouns apart: bell and bells are one
_NO_NOUN_WORDS = (
    "and the for are was were has had per more less than with from und der die das von les"
    " des que con por los las not but who which that have will can new"
)
_NO_NOUN = frozenset(_NO_NOUN_WORDS.split())

Number = tuple[int, int, frozenset[str]]


class SourceFacts:
    """Facts of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = plain(text)

    def stands(self, piece: str) -> bool:
        """Whether a piece of plain text stands there as a whole, not as a part of a longer one."""
        text, start = self.plain, -1
        for _ in range(TRIED):
            if (start := text.find(piece, start + 1)) < 0:
                return False
            if not _goes_on(text, start, start + len(piece)):
                return True
        return False

    def stands_alone(self, word: str) -> bool:
        """Whether a number in words stands there, not as a part of another: two of twenty-two."""
        start = self.plain.find(word)
        end = start + len(word)
        if start < 0 or _goes_on(self.plain, start, end):
            return False
        around = _BESIDE.findall(self.plain[max(0, start - 16) : start])[-2:]
        around += _BESIDE.findall(self.plain[end : end + 16])[:2]
        return number_words().keys().isdisjoint(around)

    @cached_property
    def pages(self) -> frozenset[str]:
        """Pages that it names."""
        return pages(self.text)

    @cached_property
    def mails(self) -> frozenset[str]:
        """Its e-mail addresses."""
        return mails(self.text)

    @cached_property
    def words(self) -> frozenset[str]:
        """Its words."""
        return words_of(self.plain)

    @cached_property
    def digits(self) -> list[Number]:
        """Its numbers in digits, in order: start, end, readings."""
        return [*_numbers(self.plain)]

    @cached_property
    def worded(self) -> list[Worded]:
        """Its numbers in words."""
        return all_worded(self.plain)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Readings of all numbers in digits."""
        return frozenset(reading for *_, found in self.digits for reading in found)

    def knows(self, asked: Set[str]) -> bool:
        """Whether it holds a number that may say one of these."""
        return not (asked.isdisjoint(self.numbers) and asked.isdisjoint(self.values))

    @cached_property
    def values(self) -> frozenset[str]:
        """Its numbers in words, and the days and years of its dates."""
        said = {str(word.value) for word in self.worded}
        said |= {str(day.day) for day in self.days if day.day is not None}
        said |= {str(day.year) for day in self.days if day.year is not None}
        said |= fractions(self.plain)
        said |= {str(value) for *_, value in chinese_sums(self.plain)}
        return frozenset(said) | ({"0.5"} if "half" in self.words else set())

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Readings of numbers that follow each other, with and without those in words."""
        worded = [(w.start, w.end, frozenset((str(w.value),))) for w in self.worded]
        found: set[tuple[str, str]] = set()
        for numbers in (self.digits, sorted([*self.digits, *worded], key=lambda n: n[:2])):
            for (*_, first), (*_, second) in pairwise(numbers):
                found.update((a, b) for a in first for b in second)
        return frozenset(found)

    @cached_property
    def days(self) -> frozenset[Day]:
        """All days that its dates may name."""
        return frozenset(day for dated in dates(self.plain) for day in dated.days)

    @cached_property
    def years(self) -> dict[tuple[int, int | None], set[int | None]]:
        """Years of its days by month and day of the month."""
        found: dict[tuple[int, int | None], set[int | None]] = {}
        for day in self.days:
            found.setdefault((day.month, day.day), set()).add(day.year)
            found.setdefault((day.month, None), set()).add(day.year)
        return found

    @cached_property
    def weekdays(self) -> frozenset[int]:
        """Weekdays that it names."""
        return frozenset(day for *_, day in weekdays(self.plain))

    @cached_property
    def times(self) -> list[Clocked]:
        """Its times of day."""
        return [*times(self.plain)]

    @cached_property
    def minutes(self) -> frozenset[int]:
        """All minutes of the day that its times may name."""
        noon = {"noon", "midday", "mittag", "midi", "mediodía", "正午"} & self.words
        return frozenset(m for time in self.times for m in time.minutes) | (
            {NOON} if noon else set()
        )

    @cached_property
    def grouped(self) -> frozenset[str]:
        """Digits of its phone numbers and the like, without what stands between them."""
        return frozenset(
            form for match in GROUPS.finditer(self.plain) for form in joined_groups(match[0])
        )

    @cached_property
    def counted(self) -> frozenset[str]:
        """What follows each of its numbers: what is counted there."""
        ends = [end for _, end, _ in self.digits] + [word.end for word in self.worded]
        return frozenset(filter(None, (noun_after(self.plain, end) for end in ends)))


@lru_cache(maxsize=256)
def source_facts(text: str) -> SourceFacts:
    """Facts of a source; the last ones are kept."""
    return SourceFacts(text)


def words_of(text: str) -> frozenset[str]:
    """Words of a plain text."""
    return frozenset((_ASCII_WORD if text.isascii() else _WORD).findall(text))


def all_worded(text: str) -> list[Worded]:
    """Numbers in words and in Chinese numerals of a plain text."""
    found = [*worded(text)]
    return found if text.isascii() else [*found, *chinese_numbers(text)]


def joined_groups(text: str) -> frozenset[str]:
    """The digits of a phone number or the like, also as it is written without the country."""
    digits = _NOT_SAID.sub("", text)
    if len(digits) < MIN_GROUPED:
        return frozenset()
    found = {digits}
    if text.startswith(("+", "00")):
        found |= {"0" + digits.lstrip("0")[size:] for size in (1, 2, 3)}
    return frozenset(found)


def noun_after(text: str, end: int) -> str | None:
    """The start of the word behind a number, one sign where words are not parted."""
    match = _NOUN.match(text, end)
    if match is None:
        return None
    word = match[1]
    if _SPACELESS.match(word):
        return word[0]
    return word[:STEM] if len(word) > 2 and word not in _NO_NOUN else None


def _numbers(text: str) -> Iterator[Number]:
    for match in NUMBER.finditer(text):
        start, end = match.span()
        yield start, end, readings(text, start, end)
        number = match[0]
        # [3,7] is a list of two numbers, and "4 350" may be two.
        if " " in number or (
            "," in number and (text[start - 1 : start] == "[" or text[end : end + 1] == "]")
        ):
            for part in re.finditer(r"\d+", number):
                yield start + part.start(), start + part.end(), frozenset((part[0],))


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether a number or word goes on before or after a place."""
    if start and _one(text[start - 1], text[start]):
        return True
    if (
        start > 1
        and text[start - 1] in ".,:'/"
        and text[start - 2].isdigit()
        and text[start].isdigit()
    ):
        return True
    if end < len(text) and _one(text[end - 1], text[end]):
        return True
    if not text[end - 1].isdigit():
        return False
    if end + 1 < len(text) and text[end] in ".,:'/ " and text[end + 1].isdigit():
        return True
    return multiplied(text, end) is not None


def _one(left: str, right: str) -> bool:
    """Whether two neighbouring signs belong to one word or number."""
    if not all(sign.isalpha() or sign.isdecimal() for sign in (left, right)):
        return False
    return not (_SPACELESS.match(left) or _SPACELESS.match(right))
