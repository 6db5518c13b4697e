"""What a written number may say: 4.350 is 4350 or 4.350, 1,2 Mio is 1200000.

Not here: numbers in words (``number_words.py``); which numbers belong together (``sources.py``).
All functions read plain text (``signs.py``). A reading is a text: two numbers are the same if
they have a reading in common.
"""

from __future__ import annotations

import re
from fractions import Fraction

# Blanks and apostrophes part thousands only. An id keeps its zeros, so no sign is left out.
NUMBER = re.compile(
    r"[\d½¼¾⅓⅔⅛⅜⅝⅞](?:\d{0,2}(?:[ ']\d{3})+(?![\d'])(?:[.,]\d+)?(?![.,]?\d)"
    r"|\d*(?:[.,]\d+)*(?: ?[½¼¾⅓⅔⅛⅜⅝⅞])?)"
)
_BY_COMMA = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_BY_POINT = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
_FRACTION = {sign: Fraction(text) for sign, text in {
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}.items()}  # fmt: skip
_PART_OF = re.compile(r"(?<![\d./-])(\d{1,2})/(\d{1,2})(?![\d./-])")
# After these or before those, 2.50 is an amount and the same as 2.5; a version 2.50 is not.
_MONEY = "$€£¥₹₩₽"
_AMOUNT_AFTER = re.compile(
    r" ?(?:[%‰°$€£¥₹元円]|(?:percent|prozent|euros?|eur|usd|gbp|chf|francs?|franken|dollars?"
    r"|pounds?|kg|g|mg|km|cm|mm|m|ml|l|cl|mi|lbs?|oz|stars?|points?|hours?|stunden|heures|horas)\b)"
)
_AMOUNT_BEFORE = re.compile(r"(?:eur|usd|gbp|chf|inr|rs\.?) ?$")
_VERSION_BEFORE = re.compile(r"(?:\bv|version|versión|release|firmware|build|rev\.?|ver\.) ?$")
# What stands behind a number and multiplies it. A bare "m" may be metres or minutes.
_TIMES = {
    "k": 3, "tsd": 3, "thousand": 3, "tausend": 3, "mille": 3, "mil": 3, "千": 3, "ألف": 3,
    "آلاف": 3, "हज़ार": 3, "हजार": 3, "万": 4, "萬": 4, "lakh": 5, "lakhs": 5, "लाख": 5, "m": 6,
    "mn": 6, "mio": 6, "million": 6, "millions": 6, "millionen": 6, "millón": 6, "millones": 6,
    "مليون": 6, "ملايين": 6, "mln": 6, "crore": 7, "crores": 7, "करोड़": 7, "亿": 8, "億": 8,
    "b": 9, "bn": 9, "mrd": 9, "billion": 9, "billions": 9, "milliarde": 9, "milliarden": 9,
    "milliard": 9, "milliards": 9, "مليار": 9, "兆": 12, "trillion": 12, "billionen": 12,
}  # fmt: skip
_SPACED = "|".join(sorted((w for w in _TIMES if w < "\u3000"), key=len)[::-1])
_TIMES_AFTER = re.compile(rf" ?(?:({_SPACED})(?![^\W_])|([千万萬亿億兆]))")
_RANGE_AFTER = re.compile(
    r" ?(?:to|and|or|bis|und|oder|à|a|et|ou|y|o|-|至|到|से|إلى) ?(?:\d+(?:[.,]\d+)*)"
)
# One of two meanings: the bare number stands beside the multiplied one.
_OPEN = frozenset({"k", "m", "b"})


def readings(text: str, start: int, end: int, *, asked: bool = False) -> frozenset[str]:
    """What the number at a place may say.

    Args:
        text: plain text.
        start: where the number starts.
        end: where its digits end.
        asked: whether it has to be right, as in an answer: then 5k is 5000 only.
    """
    number = text[start:end]
    found = frozenset((number,))
    if not number.isdigit():
        found = _values(number, text, start, end)
    after = text[end : end + 1]
    if not after or after in ".,;:)/":
        return found
    return _multiplied(found, text, end, asked)


def fractions(text: str) -> set[str]:
    """Readings of fractions such as 1/2."""
    return {_exact(Fraction(int(a), int(b))) for a, b in _PART_OF.findall(text) if int(a) < int(b)}


def multiplied(text: str, end: int) -> re.Match[str] | None:
    """The word behind the digits that end at a place, if it multiplies them."""
    after = text[end : end + 1]
    if not after or after in ".,;:)/":
        return None
    return _TIMES_AFTER.match(text, end)


def _multiplied(found: frozenset[str], text: str, end: int, asked: bool) -> frozenset[str]:
    match = _TIMES_AFTER.match(text, end)
    bare = False
    if match is None:
        between = _RANGE_AFTER.match(text, end)
        match = between and _TIMES_AFTER.match(text, between.end())
        bare = match is not None
    if match is None:
        return found
    word = match[1] or match[2]
    many = frozenset(_times(value, _TIMES[word]) for value in found)
    if bare or word == "m" or (word in _OPEN and not asked):
        return found | many
    return many


def _times(value: str, zeros: int) -> str:
    whole, _, part = value.partition(".")
    if not (whole + part).isdigit():
        return value
    part = part.ljust(zeros, "0")
    return _joined(whole + part[:zeros], part[zeros:].rstrip("0"))


def _joined(whole: str, part: str) -> str:
    whole = whole.lstrip("0") or "0"
    return f"{whole}.{part}" if part else whole


def _values(number: str, text: str, start: int, end: int) -> frozenset[str]:
    if number[-1] in _FRACTION:
        return _with_fraction(number)
    if " " in number or "'" in number:
        number = number.replace(" ", "").replace("'", "")
        if number.isdigit():
            return frozenset((number,))
    grouped = _grouped(number)
    parts = number.replace(",", ".").split(".")
    if len(parts) != 2 or (grouped and len(parts[1]) != 3):
        return frozenset((grouped or ".".join(parts),))
    exact = _joined(*parts)
    found = {exact, grouped or exact}
    if grouped is None:
        found |= _shorter(exact, text, start, end)
    return frozenset(found)


def _grouped(number: str) -> str | None:
    """The number with thousands apart, joined; None if they are not."""
    if "," in number and _BY_COMMA.fullmatch(number):
        whole, _, part = number.replace(",", "").partition(".")
    elif "." in number and _BY_POINT.fullmatch(number):
        whole, _, part = number.replace(".", "").partition(",")
    else:
        return None
    return _joined(whole, part.rstrip("0"))


def _shorter(exact: str, text: str, start: int, end: int) -> set[str]:
    """25.00 is 25 too unless it is a version, and 2.50 is 2.5 where it is an amount."""
    whole, _, part = exact.partition(".")
    cut = part.rstrip("0")
    if cut == part:
        return set()
    before = text[max(0, start - 10) : start]
    if not cut:
        return set() if len(part) > 2 or _VERSION_BEFORE.search(before) else {whole}
    amount = before[-1:] in _MONEY if before else False
    amount = amount or _AMOUNT_AFTER.match(text, end) is not None
    return {f"{whole}.{cut}"} if amount or _AMOUNT_BEFORE.search(before) else set()


def _with_fraction(number: str) -> frozenset[str]:
    whole = number[:-1].strip()
    if whole and not whole.isdigit():
        return frozenset((number,))
    value = int(whole or 0) + _FRACTION[number[-1]] if len(whole) < 20 else _FRACTION[number[-1]]
    return frozenset((_exact(value),))


def _exact(value: Fraction) -> str:
    """Three digits are enough for eighths; thirds have no end."""
    return f"{float(value):g}" if (value * 1000).denominator == 1 else str(value)
