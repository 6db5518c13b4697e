"""Numbers, dates, times, ids, URLs and e-mail addresses of an answer that its source must hold.

Not here: how they may be written (``readings``); the wording of an answer
(``labels/hallucination``). A sum or another number that would have to be worked out is unsupported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from loop_pipeline.answers.list_marks import without_list_marks
from loop_pipeline.answers.readings.addresses import EMAIL, URL, page, trimmed
from loop_pipeline.answers.readings.chinese_numerals import chinese_sums
from loop_pipeline.answers.readings.clock_times import Clocked, times
from loop_pipeline.answers.readings.dates import Dated, Day, dates
from loop_pipeline.answers.readings.number_values import NUMBER, fractions, multiplied, readings
from loop_pipeline.answers.readings.signs import plain, without
from loop_pipeline.answers.readings.source_facts import (
    GROUPS,
    SourceFacts,
    joined_groups,
    source_facts,
    words_of,
)
from loop_pipeline.answers.readings.worded_facts import worded_spans

__all__ = ["fact_spans", "joined", "spans_of", "unsupported_facts", "without_list_marks"]

# Letters of scripts in which ids are written; others only stand beside a number.
_LETTER = r"a-zªµºß-öø-ɏͰ-ԯḀ-ỿ"
_SIGN = r"[-./:_,]"
_PART = "½¼¾⅓⅔⅛⅜⅝⅞"
# A run of letters and digits that holds at least one digit: 48213, A-48213, 3.5kg, 2026-03-01; or
# digits with their thousands apart. It starts where a word starts, else a long blob would cost
# quadratic time.
TOKEN = re.compile(
    rf"(?<![{_LETTER}\d])(?<![{_LETTER}\d]{_SIGN})(?:"
    rf"\d{{1,3}}(?:[ ']\d{{3}})+(?![\d'])(?:[.,]\d+)?(?![.,]?\d)"
    rf"|(?:[{_LETTER}\d]+{_SIGN})*[{_LETTER}]*\d[{_LETTER}\d]*(?:{_SIGN}[{_LETTER}\d]+)*"
    rf"(?: ?[{_PART}])?|[{_PART}])"
)
PIECE = re.compile(rf"{NUMBER.pattern}|[^\W\d_]+")
# Letters before a number that name no thing: a version, "number", a currency.
_NO_NAME_WORDS = "v ver version no nr num n nº no° p s art usd eur gbp chf inr jpy cny us rs ca"
_NO_NAME = frozenset(_NO_NAME_WORDS.split())
# Letters behind a number that are a unit or an ending, also in capitals.
_UNIT_WORDS = (
    "km kg gb mb tb kb mhz ghz hz kwh kw mw w v a ma mah m k l ml cm mm g t h min s am pm st"
    " nd rd th x d p b bn mio mrd usd eur gbp chf inr jpy cny dpi px c f mph kmh"
)
_UNIT = frozenset(_UNIT_WORDS.split())
Span = tuple[int, int]


def unsupported_facts(output: str, request_text: str) -> list[str]:
    """Numbers, dates, ids and addresses of an answer that its request does not hold."""
    return [output[start:end] for start, end in fact_spans(output, request_text)]


def fact_spans(output: str, request_text: str) -> list[Span]:
    """Where the unsupported facts of an answer stand: (start, end) in characters of it."""
    if output == request_text:
        return []
    source = source_facts(request_text)
    missing: list[Span] = []
    rest = output
    if "@" in output or "//" in output or "www." in output.casefold():
        missing = [*_addresses(output, source)]
        rest = EMAIL.sub(_blank, URL.sub(_blank, output))
    told = plain(without_list_marks(rest))
    missing += _digits(told, rest, source)
    missing += worded_spans(told, source)
    return missing


def joined(output: str, places: Iterable[Span]) -> list[Span]:
    """Places in their order, those with only blanks between them as one."""
    found: list[Span] = []
    for start, end in places:
        if found and not output[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def spans_of(output: str, places: Iterable[Span], why: str) -> list[dict[str, Any]]:
    """Places as the column ``spans`` holds them: start, end, text, why."""
    return [{"start": a, "end": b, "text": output[a:b], "why": why} for a, b in sorted(places)]


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _addresses(output: str, source: SourceFacts) -> Iterator[Span]:
    for match in URL.finditer(output):
        address = trimmed(match[0])
        if page(address) not in source.pages:
            yield match.start(), match.start() + len(address)
    for match in EMAIL.finditer(URL.sub(_blank, output)):
        if match[0].casefold() not in source.mails:
            yield match.span()


def _digits(told: str, written: str, source: SourceFacts) -> Iterator[Span]:
    """Facts in digits: dates first, then times of day, then what is left as numbers and ids."""
    if TOKEN.search(told) is None:
        return
    read: list[Span] = []
    for dated in dates(told):
        read.append(dated[:2])
        if not _day_fits(dated, told, source):
            yield dated[:2]
    told = without(told, read)
    read.clear()
    for clocked in times(told):
        start = _range_start(clocked, told, source)
        if start is None:
            continue
        read.append((start, clocked.end))
        if not _time_fits(clocked, told, source):
            yield clocked[:2]
    read += [sum_[:2] for sum_ in chinese_sums(told) if source.knows({str(sum_[2])})]
    told = without(told, read)
    tokens = [m.span() for m in TOKEN.finditer(told)]
    tokens = [(a, b) for a, b in tokens if not _stands(told, a, b, source)]
    if tokens and (grouped := [*_grouped(told, source)]):
        tokens = [(a, b) for a, b in tokens if not any(c <= a and b <= d for c, d in grouped)]
    yield from (place for place in tokens if not _token_fits(told, written, *place, source))


def _stands(told: str, start: int, end: int, source: SourceFacts) -> bool:
    times = multiplied(told, end)
    return source.stands(told[start : times.end() if times else end])


def _grouped(told: str, source: SourceFacts) -> Iterator[Span]:
    for match in GROUPS.finditer(told):
        if not source.grouped.isdisjoint(joined_groups(match[0])):
            yield match.span()


def _day_fits(dated: Dated, told: str, source: SourceFacts) -> bool:
    if source.stands(told[dated.start : dated.end]):
        return True
    if any(_named(day, source) for day in dated.days):
        return True
    # Not a date of the source, perhaps not one here: 10/15 may be ten of fifteen.
    if dated.named and not words_of(told[dated.start : dated.end]) <= source.words:
        return False
    return all(
        _token_fits(told, told, *match.span(), source)
        for match in TOKEN.finditer(told, dated.start, dated.end)
    )


def _named(day: Day, source: SourceFacts) -> bool:
    """Whether the source names this day; it may name the year elsewhere."""
    years = source.years.get((day.month, day.day))
    if years is None and day.day is not None and str(day.day) in source.numbers:
        years = source.years.get((day.month, None))
    if years is None:
        return False
    if day.year is None or day.year in years:
        return True
    return None in years and str(day.year) in source.numbers


def _time_fits(clocked: Clocked, told: str, source: SourceFacts) -> bool:
    if source.stands(told[clocked.start : clocked.end]):
        return True
    if not clocked.minutes.isdisjoint(source.minutes):
        return True
    hour = clocked.hour
    same = [time for time in source.times if time.hour % 12 == hour % 12]
    if clocked.half is None:
        if hour <= 12 and any(
            t.half and m % 720 in {n % 720 for n in t.minutes}
            for t in same
            for m in clocked.minutes
        ):
            return True
    elif same:
        return False
    return all(
        _token_fits(told, told, *match.span(), source)
        for match in TOKEN.finditer(told, clocked.start, clocked.end)
    )


def _range_start(clocked: Clocked, told: str, source: SourceFacts) -> int | None:
    """Where "9-17 Uhr" starts; None if its first number is no hour of the source."""
    if ":" in told[clocked.start : clocked.end] or told[clocked.start - 1 : clocked.start] != "-":
        return clocked.start
    match = re.search(r"\b\d\d?$", told[max(0, clocked.start - 3) : clocked.start - 1])
    if match is None:
        return clocked.start
    hour = 60 * int(match[0])
    if source.minutes.isdisjoint({hour, hour + 720}) or source.minutes.isdisjoint(clocked.minutes):
        return None
    return clocked.start - 1 - len(match[0])


def _token_fits(told: str, written: str, start: int, end: int, source: SourceFacts) -> bool:
    """Letters before a number name it (A-48213), letters after it are units (5kg, 3pm)."""
    pieces = [(m[0], m.start(), m.end()) for m in PIECE.finditer(told, start, end)]
    numbers = [i for i, (piece, *_) in enumerate(pieces) if not piece[0].isalpha()]
    # "No 5" and "v2" name no thing, N-10000 does.
    names = {
        piece
        for piece, _, stop in pieces[: numbers[0]]
        if piece not in _NO_NAME or told[stop : stop + 1] == "-"
    }
    if not names <= source.words or not _suffix_fits(pieces[numbers[0] :], written, source):
        return False
    asked = [readings(told, *pieces[i][1:], asked=True) for i in numbers]
    if len(asked) == 1:
        return source.knows(asked[0]) or _parts_fit(told, *pieces[numbers[0]][1:], source)
    # 2026-01-03 is not supported by 2026-03-01, but 10-15 is by "10 to 15".
    return source.knows(fractions(told[start:end])) or all(
        any((a, b) in source.pairs for a in first for b in second)
        for first, second in pairwise(asked)
    )


def _parts_fit(told: str, start: int, end: int, source: SourceFacts) -> bool:
    """Whether "4 350" or "3,7,9" are several numbers that follow each other in the source."""
    number = told[start:end]
    if " " not in number and number.count(",") < 2:
        return False
    parts = re.findall(r"\d+", number)
    return all(pair in source.pairs for pair in pairwise(parts))


def _suffix_fits(pieces: Sequence[tuple[str, int, int]], written: str, source: SourceFacts) -> bool:
    """Whether capitals behind a number belong to the source: seat 12B is not 12A."""
    names = (written[a:b] for piece, a, b in pieces if piece[0].isalpha())
    return all(
        name.casefold() in source.words or name.casefold() in _UNIT
        for name in names
        if name.isupper()
    )
