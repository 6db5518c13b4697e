"""Words that turn what a text says: negations, and numbers that are written in Chinese.

Not here: numbers in digits (``facts.py``). Two texts that differ in one such word are nearly the
same to ROUGE-L, most of all where a word is one character; so they are compared apart.
"""

from __future__ import annotations

from collections import Counter

import regex

from loop_pipeline.answers.words import words

# fmt: off
NEGATIONS = frozenset(
    {
        *("not", "no", "never", "none", "nothing", "neither", "nor", "without", "cannot"),
        *("nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals"),
        *("nichts", "ohne", "weder"),
        *("pas", "jamais", "aucun", "aucune", "rien", "sans", "ni"),
        *("nunca", "ningún", "ninguna", "nada", "sin", "jamás", "tampoco"),
        *("لا", "لم", "لن", "ليس", "ليست", "لست", "بدون", "غير"),
        *("नहीं", "मत", "बिना", "नही"),
        # A character each, as texts without spaces are compared.
        *("不", "没", "沒", "無", "无", "未", "非", "别", "別", "勿", "否", "莫"),
    }
)
# "don't", "isn’t": words are cut at the apostrophe.
_SHORTENED = regex.compile(r"\p{L}n['’]t\b")
_JAPANESE = regex.compile(r"ませ\s?ん|ない|なく|なかっ|ぬ(?=。|$)|ず(?=に|、|。|$)")
_NUMERALS = frozenset("〇零一二三四五六七八九十百千万萬億亿两兩")
# fmt: on


def turn_alike(a: str, b: str) -> bool:
    """Whether two texts are turned the same way: as many negations, the same numerals."""
    if _negations(a) != _negations(b):
        return False
    if a.isascii() and b.isascii():
        return True
    # Beside digits a number may be written either way; then ``facts.py`` alone compares.
    digits = any(character.isdecimal() for character in a + b)
    return digits or _numerals(a) == _numerals(b)


def _negations(text: str) -> int:
    """Those that mean the same count as the same: "isn't" is "is not"."""
    found = sum(word in NEGATIONS for word in words(text)) + len(_SHORTENED.findall(text))
    return found if text.isascii() else found + len(_JAPANESE.findall(text))


def _numerals(text: str) -> Counter[str]:
    return Counter(character for character in text if character in _NUMERALS)
