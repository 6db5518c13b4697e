"""The words of a text in any script: what answers and sources are compared by.

Not here: numbers and dates (``facts.py``); signs that carry meaning in leak checks
(``training/dataset/shingles.py``).
"""

from __future__ import annotations

import re
import unicodedata

import regex

# Scripts that put no space between words. A dictionary would cut them better but differently for
# every language; comparing by characters is what ROUGE-L and chrF do there (Popović 2015).
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
# Marks belong to the letter before them: without \p{M} every Hindi vowel sign would end a word.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_PART = regex.compile(rf"[{_SPACELESS}]\p{{M}}*|[^{_SPACELESS}]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ANY_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")


def word_spans(text: str) -> list[tuple[int, int, str]]:
    """Where the words of ``words`` stand: start, end in characters of ``text``, and the word."""
    if text.isascii():
        return [(m.start(), m.end(), m[0].lower()) for m in _ANY_ASCII_WORD.finditer(text)]
    return [
        (run.start() + part.start(), run.start() + part.end(), plain)
        for run in _WORD.finditer(text)
        for part in _PART.finditer(run[0])
        if (plain := unicodedata.normalize("NFC", part[0]).casefold())
    ]


def words(text: str) -> list[str]:
    """Words of a text, composed (NFC) and without case; a character each where none are spaced."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    plain = unicodedata.normalize("NFC", text).casefold()
    found: list[str] = []
    for word in _WORD.findall(plain):
        found.extend([word] if word.isascii() else _PART.findall(word))
    return found
