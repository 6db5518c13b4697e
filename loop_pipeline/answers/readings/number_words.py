"""Numbers written as words: English, German, French, Spanish; Arabic and Hindi up to ten.

Not here: numbers in digits (``number_values.py``), Chinese numerals (``chinese_numerals.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
)
_EN_ORDINAL = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
    " fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_EN_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_EN_TENS_ORDINAL = "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth"
_FR = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
)
_FR_ORDINAL = (
    "premier deuxième troisième quatrième cinquième sixième septième huitième neuvième dixième"
    " onzième douzième treizième quatorzième quinzième seizième"
)
_FR_TENS = "vingt trente quarante cinquante soixante septante huitante nonante"
_ES = (
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince"
    " dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós veintitrés"
    " veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve"
)
_ES_ORDINAL = (
    "primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo undécimo duodécimo"
)
_ES_TENS = "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa"
_ES_HUNDREDS = "doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"  # noqa: E501
_DE = (
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn"
    " sechzehn siebzehn achtzehn neunzehn"
)
_DE_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
_AR = "صفر واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة عشرة"
_HI = "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस"
_SCALES = {
    "hundred": 100, "hundert": 100, "cent": 100, "cents": 100, "cien": 100, "ciento": 100,
    "thousand": 1000, "tausend": 1000, "mille": 1000, "mil": 1000,
    "million": 10**6, "millions": 10**6, "millionen": 10**6, "millón": 10**6, "millones": 10**6,
    "billion": 10**9, "milliarde": 10**9, "milliarden": 10**9, "milliard": 10**9,
    "milliards": 10**9,
}  # fmt: skip
_OTHERS = {
    "twice": 2, "dozen": 12, "dutzend": 12, "douzaine": 12, "docena": 12,
    "une": 1, "una": 1, "eins": 1, "eine": 1, "einen": 1, "einem": 1, "einer": 1, "eines": 1,
    "première": 1, "seconde": 2, "second": 2, "primera": 1, "primer": 1, "segunda": 2,
    "tercera": 3, "tercer": 3, "cuarta": 4, "quinta": 5, "zwo": 2, "beide": 2, "both": 2,
    "veintiún": 21, "hundredth": 100, "hundredths": 100, "quatre-vingts": 80, "vingts": 20,
    "पांच": 5, "छः": 6, "ثلاث": 3, "أربع": 4, "خمس": 5, "ست": 6, "سبع": 7, "ثماني": 8, "تسع": 9,
    "عشر": 10, "اثنين": 2, "يومين": 2, "पहला": 1, "पहली": 1, "दूसरा": 2, "दूसरी": 2,
    "तीसरा": 3, "तीसरी": 3, "चौथा": 4, "चौथी": 4, "الأول": 1, "الثاني": 2, "الثالث": 3,
    "الثالثة": 3, "الرابع": 4, "الخامس": 5,
}  # fmt: skip
# Words that are numbers in one language and something else in another, or in the same one.
UNSURE_WORDS = "cent cents quince seize mil mille once sept elf second both"
UNSURE = frozenset(UNSURE_WORDS.split())
# Vowel signs of Hindi are no letters to ``re``.
_WORD = re.compile(r"(?:[^\W\d_]|[\u0900-\u0963])+")
_ASCII_WORD = re.compile(r"[a-z]+")
_JOINS = frozenset({"and", "et", "y", "und"})


class Worded(NamedTuple):
    """A number in words, where it stands."""

    start: int
    end: int
    value: int
    sure: bool
    """It can hardly be anything else: fourteen is, a lone "second" or "cent" is not."""


@cache
def number_words() -> dict[str, int]:
    """Value of every single word."""
    found: dict[str, int] = {}
    for words in (_EN, _FR, _ES, _AR, _HI):
        found.update({word: n for n, word in enumerate(words.split())})
    for words in (_EN_ORDINAL, _FR_ORDINAL, _ES_ORDINAL):
        found.update({word: n for n, word in enumerate(words.split(), 1)})
    for words in (_EN_TENS, _EN_TENS_ORDINAL, _FR_TENS, _ES_TENS):
        found.update({word: 20 + 10 * n for n, word in enumerate(words.split())})
    hundreds = _ES_HUNDREDS.split()
    found.update({word: 200 + 100 * n for n, word in enumerate(hundreds)})
    found.update({word[:-2] + "as": 200 + 100 * n for n, word in enumerate(hundreds)})
    return {**found, **_german(), **_SCALES, **_OTHERS}


@cache
def _german() -> dict[str, int]:
    """German writes a number below a thousand as one word; its ordinals end in -te or -ste."""
    units, tens = _DE.split(), _DE_TENS.split()
    low = dict(enumerate(units))
    for n, ten in enumerate(tens, 2):
        low[10 * n] = ten
        low |= {10 * n + unit: f"{units[unit]}und{ten}" for unit in range(1, 10)}
    words = {word: n for n, word in low.items() if n != 1}
    words |= {word.replace("ß", "ss"): n for word, n in words.items()}
    for hundred in range(1, 10):
        heads = [units[hundred] + "hundert"] + (["hundert"] if hundred == 1 else [])
        for head in heads:
            words[head] = 100 * hundred
            words |= {head + word: 100 * hundred + n for n, word in low.items() if n}
            words[f"{head}eins"] = 100 * hundred + 1
    irregular = {"erste": 1, "dritte": 3, "siebte": 7, "achte": 8}
    ordinals = {word + ("te" if n < 20 else "ste"): n for word, n in words.items() if 1 < n < 100}
    return words | {
        word + end: n for word, n in (ordinals | irregular).items() for end in ("", "n", "r", "s")
    }


def worded(text: str) -> Iterator[Worded]:
    """Numbers in words of a plain text, in order, runs of words as one."""
    known = number_words()
    run: list[tuple[int, int, str]] = []
    for match in (_ASCII_WORD if text.isascii() else _WORD).finditer(text):
        word = match[0]
        number = word in known or "tausend" in word
        goes_on = number or word in _JOINS
        if run and not (goes_on and _follows(text[run[-1][1] : match.start()], run[-1][2])):
            yield from _numbers_of(run)
            run = []
        if number or run:
            run.append((*match.span(), word))
    yield from _numbers_of(run)


def _follows(gap: str, before: str) -> bool:
    """Whether a word goes on with the number before: two thousand, three hundred does."""
    return gap in (" ", "-") or (gap == ", " and _SCALES.get(before, 0) >= 1000)


def _numbers_of(run: list[tuple[int, int, str]]) -> Iterator[Worded]:
    """The numbers of a run of words: "two hundred and five" is one, "one two" are two."""
    known = number_words()
    start = end = total = current = 0
    words: list[str] = []
    for a, b, word in run:
        if word in _JOINS:
            continue
        value = known.get(word)
        if value is None and (value := _thousands(word)) is None:
            continue
        if words and not _continues(current, value, words[-1]):
            yield _made(start, end, total + current, words)
            words, total, current = [], 0, 0
        if not words:
            start = a
        total, current = _added(total, current, value, word)
        words.append(word)
        end = b
    if words:
        yield _made(start, end, total + current, words)


def _continues(current: int, value: int, before: str) -> bool:
    if value >= 1000:
        return current < 1000
    if value == 100:
        return current < 100 and (current > 0 or before in _SCALES)
    if before in _SCALES or current == 0:
        return True
    if current % 100 in (60, 80) and value < 20 and before in ("soixante", "vingt"):
        return True
    if before == "dix" and 7 <= value <= 9:
        return True
    if value == 20 and current % 100 == 4 and before == "quatre":
        return True
    if current >= 100 and current % 100 == 0:
        return value < 100
    return current % 100 >= 20 and current % 10 == 0 and 0 < value < 10


def _added(total: int, current: int, value: int, word: str) -> tuple[int, int]:
    if value >= 1000 and word in _SCALES:
        return (total + max(current, 1) * value, 0)
    if value == 100 and word in _SCALES:
        return (total, max(current, 1) * 100)
    if word in ("vingt", "vingts") and current % 100 == 4:
        return (total, current - 4 + 80)
    return (total, current + value)


def _thousands(word: str) -> int | None:
    """A German word such as zweitausenddreihundert."""
    head, found, tail = word.partition("tausend")
    known = {**_german(), "ein": 1, "eins": 1}
    if not found or (head and head not in known) or (tail and tail not in known):
        return None
    return 1000 * (known.get(head, 1)) + (known[tail] if tail else 0)


def _made(start: int, end: int, value: int, words: list[str]) -> Worded:
    lone = len(words) == 1 and (words[0] in UNSURE or words[0] in _SCALES)
    return Worded(start, end, value, sure=value > 12 and not lone)
