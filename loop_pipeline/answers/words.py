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
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30FC\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
# Marks belong to the letter before them: without \p{M} every Hindi vowel sign would end a word.
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_PART = regex.compile(rf"[{SPACELESS}]\p{{M}}*|[^{SPACELESS}]+")
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


# A word of Chinese or Japanese has about two characters.
CHARACTERS_IN_A_WORD = 2
_SPACELESS_CHARACTER = regex.compile(rf"[{SPACELESS}]\p{{M}}*")


def count_words(text: str) -> int:
    """Words as people count them: between blanks, and two characters where none are spaced."""
    if text.isascii():
        return len(text.split())
    spaced = _SPACELESS_CHARACTER.sub(" ", text)
    characters = len(_SPACELESS_CHARACTER.findall(text))
    other = sum(any(c.isalnum() for c in word) for word in spaced.split()) if characters else 0
    return len(text.split()) if not characters else other + -(-characters // CHARACTERS_IN_A_WORD)
