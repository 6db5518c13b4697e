"""Hashed n-grams of texts: words, pairs of words, and four characters inside a word.

Where a script puts no space between words, each character is one.

Not here: what weighs how much (``embedder.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from loop_pipeline.answers.words import SPACELESS
from loop_pipeline.traces.messages import MAX_CHARS

BITS = 15  # 2^15 buckets of n-grams

FIRST_ALONE = 0x0E00  # the Thai block: none before it is written without spaces
_BASE = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_INVERSE = pow(_BASE, -1, 2**64)
_CHARS = 4  # in an n-gram; lengths 3 to 5 together group no better and cost twice the time


@lru_cache(maxsize=1)
def _is_word() -> NDArray[np.bool_]:
    """Whether a code point is part of a word, shape (0x110000,)."""
    return _table(r"[\w\p{M}\p{N}]")


@lru_cache(maxsize=1)
def _is_alone() -> NDArray[np.bool_]:
    """Whether a code point is a word of its own, shape (0x110000,)."""
    return _table(f"[{SPACELESS}]")


def _table(pattern: str) -> NDArray[np.bool_]:
    table = np.zeros(0x110000, dtype=bool)
    for match in regex.finditer(f"{pattern}+", "".join(map(chr, range(0x110000)))):
        table[match.start() : match.end()] = True
    return table


@lru_cache(maxsize=8)
def _powers(base: int, bits: int) -> NDArray[np.uint64]:
    steps = np.full(2**bits, base & _MASK, dtype=np.uint64)
    steps[0] = 1
    return np.cumprod(steps)


def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    mixed = hashes * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(_BASE) >> np.uint64(64 - BITS)).astype(
        np.uint32
    )


def _words(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Code points of the texts' words, one space around each, and the row of each point."""
    padded = [f" {t[:MAX_CHARS].lower()} " for t in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.array([len(p) for p in padded], dtype=np.int64)
    row = np.repeat(np.arange(len(texts), dtype=np.uint32), lengths)
    codes, row = _apart(codes, row)
    word = _is_word()[codes]
    keep = word.copy()
    keep[1:] |= word[:-1]
    keep[np.flatnonzero(np.diff(row, prepend=np.uint32(2**32 - 1)))] = True
    return np.where(word, codes, np.uint32(ord(" ")))[keep], row[keep]


def _apart(
    codes: NDArray[np.uint32], row: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The same code points with a space at both sides of each that is a word of its own."""
    if not (codes >= FIRST_ALONE).any():
        return codes, row
    alone = _is_alone()[codes]
    times = np.where(alone, 3, 1)
    of = np.repeat(np.arange(len(codes)), times)
    place = np.arange(len(of)) - np.repeat(np.cumsum(times) - times, times)
    spaced = np.where(alone[of] & (place != 1), np.uint32(ord(" ")), codes[of])
    return spaced.astype(np.uint32), row[of]


def _ngrams(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Row and bucket of every n-gram of the texts.

    Character n-grams stay inside a word, its two spaces included. All hashes of a batch are cut
    from one prefix sum of a polynomial hash, so that one request and a million take the same path.
    """
    codes, row = _words(texts)
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    bits = max(12, len(codes).bit_length())
    np.cumsum(codes * _powers(_BASE, bits)[: len(codes)], out=prefix[1:])
    inverse = _powers(_INVERSE, bits)
    space = codes == ord(" ")
    windows = max(len(codes) - _CHARS + 1, 0)
    inside = ~(space[1 : windows + 1] | space[2 : windows + 2])  # the two characters in between
    parts = (prefix[_CHARS:] - prefix[:windows]) * inverse[:windows]
    start = np.flatnonzero(~space[1:] & space[:-1]) + 1
    end = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    pair = np.flatnonzero(row[start[1:]] == row[start[:-1]])
    first, last = start[pair], end[pair + 1]
    hashes = (  # salted, or a word of four letters would be its own n-gram
        parts[inside] ^ np.uint64(_CHARS),
        (prefix[end] - prefix[start]) * inverse[start] ^ np.uint64(1),
        (prefix[last] - prefix[first]) * inverse[first] ^ np.uint64(2),
    )
    rows = np.concatenate([row[:windows][inside], row[start], row[first]])
    return rows, _bucket(np.concatenate(hashes))


def ngram_counts(texts: Sequence[str]) -> csr_matrix:
    """Sublinear n-gram counts, shape (n, 2^BITS); at most 2^17 texts at once."""
    row, bucket = _ngrams(texts)
    # 32 bits throughout: they sort in a third of the time, and scipy need not look for an overflow.
    key = np.sort((row << np.uint32(BITS)) | bucket)
    first = np.ones(len(key), dtype=bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    at = first.nonzero()[0]
    count, key = np.append(at[1:], len(key)) - at, key[at]
    ends = np.arange(len(texts) + 1, dtype=np.uint32) << np.uint32(BITS)
    starts = np.searchsorted(key, ends).astype(np.int32)
    values = _sublinear()[np.minimum(count, MAX_CHARS)]
    bucket = (key & np.uint32(2**BITS - 1)).astype(np.int32)
    return csr_matrix((values, bucket, starts), shape=(len(texts), 2**BITS))


@lru_cache(maxsize=1)
def _sublinear() -> NDArray[np.float32]:
    counts = np.arange(MAX_CHARS + 1)
    return (1 + np.log(np.maximum(counts, 1))).astype(np.float32)
