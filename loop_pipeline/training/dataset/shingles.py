"""Texts as sets that can be compared: words, character 5-grams, word 13-grams.

Not here: comparing them (``near_duplicates.py``, ``leakage.py``).

Characters, not words, because requests are short: "where is my card" has no 5-word shingle worth
comparing, and one slip of the finger would change most of them.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from loop_pipeline.answers.words import SPACELESS
from loop_pipeline.traces.messages import SYSTEM_ROLES

# A text is known by at most this many of its shingles, those with the lowest hashes: the same ones
# for like texts (bottom-k sketch, Broder 1997), so that long ones cost no more than short ones.
SKETCH = 512
# Words of a sequence that is no accident, unless it is found in more than ten texts
# (Brown et al. 2020, appendix C).
RUN = 13
RUN_TEXTS = 10
# A run of words in more distinct texts than this, and in more than 0.1% of them, belongs to the
# template. Lower, and a long question that people greet in many ways would pass for one.
BOILERPLATE_TEXTS = 50
BOILERPLATE_SHARE = 0.001

# Of a hash: an index of a sparse matrix is a signed 32-bit number.
BITS = 30
CHARACTERS = 5
BATCH_CHARACTERS = 1_000_000
_TOKEN = re.compile(r"\w+|[^\w\s.,;:!?'\"()-]+")
# In other scripts than ours: a character is a word where none are spaced, and marks belong to the
# letter before them.
_ANY_TOKEN = regex.compile(
    rf"[{SPACELESS}]\p{{M}}*|(?:(?![{SPACELESS}])[\w\p{{M}}])+"
    r"|[^\w\s\p{M}.,;:!?'\"()\-。，、；：！？（）「」『』“”‘’«»„¿¡…—–·،؛؟।]+"
)
_SPACELESS = regex.compile(rf"[{SPACELESS}]")
# Thirteen words of such a script are about twenty characters: a character stands for itself and
# the seven after it.
AHEAD = 7
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


def plain_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was said, without the system prompt, as lower-case words with a space between them.

    Where a script puts none, its characters are the words.

    Sentence punctuation is dropped, signs that carry meaning (3 + 4, a < b) stay. Parts that are no
    text (an image) become a word that only an equal part gives.
    """
    said: list[str] = []
    for message in messages:
        content = message.get("content")
        if message.get("role") in SYSTEM_ROLES or content is None:
            continue
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, dict) else part
            said.append(text if isinstance(text, str) else f"part{zlib.crc32(str(part).encode())}")
    text = " ".join(said).casefold()
    if text.isascii():
        return " ".join(_TOKEN.findall(text))
    return " ".join(_ANY_TOKEN.findall(unicodedata.normalize("NFC", text)))


def numbers(texts: Sequence[str]) -> Ints:
    """A hash of the words with digits of each text, in their order; 0 without any."""
    found = ([w for w in text.split() if not w.isalpha() and _digit(w)] for text in texts)
    return np.array([zlib.crc32(" ".join(words).encode()) for words in found], dtype=np.int64)


def _digit(word: str) -> bool:
    return any(character.isdigit() for character in word)


def shingle(texts: Sequence[str]) -> csr_matrix:
    """Sets of character 5-grams, spaces at both ends included.

    Returns:
        shape (n, 2^30), int8 ones, columns ascending; at most ``SKETCH`` of a row. A text of fewer
        than three characters has none.
    """
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for start, batch in _batches([f" {text} " for text in texts]):
        row, column = _sketches(batch)
        rows.append(row + start)
        columns.append(column)
    counts = np.bincount(np.concatenate(rows), minlength=len(texts))
    indices = np.concatenate(columns)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csr_matrix(
        (np.ones(len(indices), np.int8), indices, starts), shape=(len(texts), 2**BITS)
    )


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    start = size = 0
    for at, text in enumerate(texts):
        if size > BATCH_CHARACTERS:
            yield start, texts[start:at]
            start, size = at, 0
        size += len(text)
    if start < len(texts):
        yield start, texts[start:]


def _sketches(texts: Sequence[str]) -> tuple[Ints, NDArray[np.int32]]:
    codes, row = _codes(texts)
    end = max(len(codes) - CHARACTERS + 1, 0)
    hashed = np.zeros(end, np.uint64)
    for k in range(CHARACTERS):
        hashed = hashed * _BASE + codes[k : k + end]
    inside = row[:end] == row[CHARACTERS - 1 :][:end]
    column = _mixed(hashed[inside]) >> np.uint64(64 - BITS)
    key = ascending(row[:end][inside].astype(np.uint64) << np.uint64(32) | column)
    row = (key >> np.uint64(32)).astype(np.int64)
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < SKETCH
    return row[kept], (key[kept] & np.uint64(2**BITS - 1)).astype(np.int32)


def ascending(values: Hashes) -> Hashes:
    """Distinct values in order. ``np.unique`` hashes first, which takes five times as long."""
    values = np.sort(values)
    return values[np.diff(values, prepend=~values[:1]) != 0]


def _codes(texts: Sequence[str]) -> tuple[Hashes, Ints]:
    """Code points of all texts behind each other, and the text each belongs to."""
    raw = "".join(texts).encode("utf-32-le", "surrogatepass")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.frombuffer(raw, np.uint32).astype(np.uint64), np.repeat(
        np.arange(len(texts)), lengths
    )


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX
    return (hashes ^ (hashes >> np.uint64(27))) * _BASE


def word_runs(texts: Sequence[str]) -> tuple[Ints, Hashes, Ints]:
    """Every run of 13 words.

    Returns:
        Text, hash and first word of each run, in the order of the texts.
    """
    empty = np.zeros(0, np.int64)
    parts = [(empty, empty.astype(np.uint64), empty)]
    for start, batch in _batches(texts):
        row, hashed, place = _runs([_run_words(text) for text in batch])
        parts.append((row + start, hashed, place))
    row, hashed, place = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, hashed, place


def _run_words(text: str) -> list[str]:
    """The words of a text; a character that is one together with those that follow it."""
    words = text.split()
    if text.isascii() or not _SPACELESS.search(text):
        return words
    return [
        "".join(words[at : at + AHEAD + 1]) if _SPACELESS.match(word) else word
        for at, word in enumerate(words)
    ]


def _runs(words: Sequence[Sequence[str]]) -> tuple[Ints, Hashes, Ints]:
    long = [i for i, found in enumerate(words) if len(found) >= RUN]
    lengths = np.array([len(words[i]) for i in long], np.int64)
    flat = (zlib.crc32(word.encode("utf-8", "surrogatepass")) for i in long for word in words[i])
    codes = np.fromiter(flat, np.uint64, int(lengths.sum()))
    row = np.repeat(np.array(long, np.int64), lengths)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    end = max(len(codes) - RUN + 1, 0)
    hashed = np.zeros(end, np.uint64)
    for k in range(RUN):
        hashed = hashed * _BASE + _mixed(codes[k : k + end])
    inside = row[:end] == row[RUN - 1 :][:end]
    return row[:end][inside], hashed[inside], place[:end][inside]


def common_runs(texts: Sequence[str]) -> Hashes:
    """Runs of words that belong to a template, sorted: they say nothing about a single request."""
    row, hashed, _ = word_runs(texts)
    return runs_in(row, hashed, above=max(BOILERPLATE_TEXTS, BOILERPLATE_SHARE * len(texts)))


def runs_in(row: Ints, hashed: Hashes, *, above: float) -> Hashes:
    """Runs of words that more than so many texts hold, sorted."""
    order = np.lexsort((row, hashed))
    row, hashed = row[order], hashed[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (hashed[1:] != hashed[:-1])
    distinct = hashed[first]
    starts = np.flatnonzero(np.diff(distinct, prepend=~distinct[:1]) != 0)
    texts_with = np.diff(starts, append=len(distinct))
    return distinct[starts[texts_with > above]]


def without_runs(texts: Sequence[str], common: Hashes) -> list[str]:
    """The texts without the words of these runs: what is left is what was asked."""
    cleaned = list(texts)
    row, hashed, place = word_runs(texts)
    found = np.isin(hashed, common)
    cuts = np.flatnonzero(np.diff(row[found], prepend=-1))
    for starts in np.split(np.flatnonzero(found), cuts[1:]) if found.any() else []:
        words = str(texts[int(row[starts[0]])]).split()
        dropped = {int(place[s]) + k for s in starts for k in range(RUN)}
        kept = [word for k, word in enumerate(words) if k not in dropped]
        cleaned[int(row[starts[0]])] = " ".join(kept)
    return cleaned
