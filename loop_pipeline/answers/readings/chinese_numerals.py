"""Numbers in Chinese numerals, as Chinese and Japanese write them: 十四, 三百, 二〇二六.

Not here: digits with a scale behind them, 3万 (``number_values.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from loop_pipeline.answers.readings.number_words import Worded

_NUMERAL = re.compile(
    r"第?([〇零一二三四五六七八九十百千万億亿萬两兩壹貳贰參叁肆伍陸陆柒捌玖拾佰仟]+)"
)
_DIGITS = {
    **dict(zip("〇零一二三四五六七八九", (0, *range(10)), strict=True)),
    **dict(zip("壹貳參肆伍陸柒捌玖", range(1, 10), strict=True)),
    "两": 2, "兩": 2, "贰": 2, "叁": 3, "陆": 6,
}  # fmt: skip
_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_SCALES = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_SUMMAND = re.compile(r"(\d{1,9}(?:,\d{3}){0,3}(?:\.\d{1,9})?)([千万萬亿億]?)")
_SUM = re.compile(r"\d{1,9}(?:\.\d{1,9})?[千万萬亿億](?:\d{1,9}(?:,\d{3})?[千万萬亿億]?)+")
# Numerals that are no numbers where they stand alone.
_WORDS = frozenset({"十分", "千万", "万一", "一一", "百分", "万分", "一二", "三三两两"})


def chinese_numbers(text: str) -> Iterator[Worded]:
    """Numerals of a plain text, in order."""
    for match in _NUMERAL.finditer(text):
        numeral = match[0].removeprefix("第")
        before = text[max(0, match.start() - 2) : match.start()]
        if numeral in _WORDS or text[match.start() : match.start() + 2] in _WORDS:
            continue
        # A weekday, not a number; after a digit it is a scale (3万).
        if before.endswith(("周", "週", "星期", "礼拜", "禮拜")) or before[-1:].isdigit():
            continue
        if (value := chinese_value(numeral)) is not None:
            sure = len(numeral) > 1 and value > 10
            yield Worded(match.start(), match.end(), value, sure=sure)


def chinese_sums(text: str) -> Iterator[tuple[int, int, int]]:
    """Numbers such as 3億5000万, whose parts add up: start, end, value."""
    if text.isascii():
        return
    for match in _SUM.finditer(text):
        parts = _SUMMAND.findall(match[0])
        value = sum(
            Fraction(number.replace(",", "")) * _SCALES.get(s, _UNITS.get(s, 1))
            for number, s in parts
        )
        yield match.start(), match.end(), int(value)


def chinese_value(numeral: str) -> int | None:
    """Value of a Chinese numeral; None where it cannot be read."""
    if all(sign in _DIGITS for sign in numeral):
        if len(numeral) == 2:  # 三四 is "three or four"
            return None
        return int("".join(str(_DIGITS[sign]) for sign in numeral[:20]))
    total = section = digit = 0
    for sign in numeral:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign in _UNITS:
            section += (digit or 1) * _UNITS[sign]
            digit = 0
        else:
            total += max(section + digit, 1) * _SCALES[sign]
            section = digit = 0
    return total + section + digit
