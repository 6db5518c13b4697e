"""Text to vectors without any pretrained weights: hashed n-grams, idf, truncated SVD."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Floats = NDArray[np.float32]

MAX_CHARS = 20_000  # read of one request; more says nothing about its task
BITS = 15  # 2^15 buckets of n-grams
DIMENSIONS = 192
FIT_ROWS = 20_000
BATCH = 512

_BASE, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1
_INVERSE = pow(_BASE, -1, 2**64)
_CHARS = 4  # in an n-gram; lengths 3 to 5 together group no better and cost twice the time
_SCHEME = "word1-2+char4/2"


def request_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the user asked last, without system prompt and history.

    Returns:
        The text, or "" if there is none or part of it is not text (an image, a file).
    """
    for message in reversed(messages):
        if message.get("role") != "user":
            continue
        content = message.get("content")
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else []
        texts = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
        whole = len(texts) == len(parts) and all(isinstance(t, str) for t in texts)
        return "\n".join(str(t) for t in texts) if whole else ""
    return ""


@lru_cache(maxsize=1)
def _is_word() -> NDArray[np.bool_]:
    """Whether a code point is part of a word, shape (0x110000,)."""
    table = np.zeros(0x110000, dtype=bool)
    table[[ord(c) for c in re.findall(r"\w", "".join(map(chr, range(0x110000))))]] = True
    return table


@lru_cache(maxsize=8)
def _powers(base: int, bits: int) -> NDArray[np.uint64]:
    steps = np.full(2**bits, base & _MASK, dtype=np.uint64)
    steps[0] = 1
    return np.cumprod(steps)


def _bucket(hashes: NDArray[np.uint64], salt: int) -> NDArray[np.int64]:
    mixed = (hashes ^ np.uint64(salt)) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(_BASE) >> np.uint64(64 - BITS)).astype(
        np.int64
    )


def _words(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Code points of the texts' words, one space around each, and the row of each point."""
    padded = [f" {t[:MAX_CHARS].lower()} " for t in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.array([len(p) for p in padded], dtype=np.int64)
    word = _is_word()[codes]
    keep = word.copy()
    keep[1:] |= word[:-1]
    keep[np.cumsum(lengths) - lengths] = True
    row = np.repeat(np.arange(len(texts)), lengths)
    return np.where(word, codes, np.uint32(ord(" ")))[keep], row[keep]


def _ngrams(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
    spaces = np.concatenate([[0], np.cumsum(space)])

    windows = max(len(codes) - _CHARS + 1, 0)
    inside = spaces[_CHARS - 1 : -1][:windows] == spaces[1 : windows + 1]  # no space in between
    parts = (prefix[_CHARS:] - prefix[:windows]) * inverse[:windows]
    start = np.flatnonzero(~space[1:] & space[:-1]) + 1
    end = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    pair = np.flatnonzero(row[start[1:]] == row[start[:-1]])
    first, last = start[pair], end[pair + 1]
    buckets = [
        _bucket(parts[inside], _CHARS),
        _bucket((prefix[end] - prefix[start]) * inverse[start], 1),
        _bucket((prefix[last] - prefix[first]) * inverse[first], 2),
    ]
    return np.concatenate([row[:windows][inside], row[start], row[first]]), np.concatenate(buckets)


def ngram_counts(texts: Sequence[str]) -> csr_matrix:
    """Sublinear n-gram counts, shape (n, 2^BITS)."""
    row, bucket = _ngrams(texts)
    key = np.sort((row << BITS) | bucket)
    at = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))[: len(key)]
    count, key = np.diff(at, append=len(key)), key[at]
    starts = np.searchsorted(key, np.arange(len(texts) + 1) << BITS)
    values = (1 + np.log(count)).astype(np.float32)
    return csr_matrix((values, key & (2**BITS - 1), starts), shape=(len(texts), 2**BITS))


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)


class Embedder:
    """Hashed word 1-2 and character 4 grams, idf, SVD: fits anywhere, versioned, never pickled.

    Method: the weightless embedding measured on CLINC150 and BANKING77 (TF-IDF, SVD).
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.float16]]) -> None:
        self._arrays = {k: arrays[k].astype(np.float16) for k in sorted(arrays)}
        idf, components, self._origin, self._axes = (
            arrays[k].astype(np.float32) for k in ("idf", "components", "origin", "axes")
        )
        self._weighted = idf[:, None] * components

    @classmethod
    def fit(cls, texts: Sequence[str], seed: int) -> Self:
        """Learn idf, components and map axes.

        Args:
            texts: training requests; a seeded sample of 20,000 is used if there are more.
            seed: of the sample and of the randomised SVD.

        Raises:
            ValueError: if no text holds a single word.
        """
        rng = np.random.default_rng(seed)
        if len(texts) > FIT_ROWS:
            texts = [str(texts[i]) for i in np.sort(rng.permutation(len(texts))[:FIT_ROWS])]
        counts = ngram_counts(texts)
        if counts.nnz == 0:
            raise ValueError(f"cannot fit an embedder: none of the {len(texts)} texts has a word")
        seen = np.bincount(counts.indices, minlength=2**BITS)
        idf = (np.log((1 + len(texts)) / (1 + seen)) + 1).astype(np.float16)
        weighted = counts.multiply(idf.astype(np.float32)).tocsr()
        scale = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)))
        weighted = weighted.multiply(1 / np.where(scale == 0, 1, scale)).tocsr()
        size = max(1, min(DIMENSIONS, len(texts) - 1))
        from sklearn.utils.extmath import randomized_svd  # takes seconds: a router needs none

        _, _, basis = randomized_svd(weighted, size, random_state=seed)
        components = np.ascontiguousarray(basis.T).astype(np.float16)
        vectors = _unit(np.asarray(weighted @ components.astype(np.float32)))
        origin = vectors.mean(axis=0)
        _, directions = np.linalg.eigh((vectors - origin).T @ (vectors - origin))
        axes = np.zeros((size, 2))
        axes[:, : min(2, size)] = directions[:, ::-1][:, :2]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]] + 1e-12)
        arrays = {"idf": idf, "components": components, "origin": origin, "axes": axes}
        return cls({k: np.asarray(v, dtype=np.float16) for k, v in arrays.items()})

    def transform(self, texts: Sequence[str]) -> Floats:
        """Embed texts.

        Returns:
            shape (n, d), float32, unit length; zero for a text without a known n-gram.
        """
        out = np.zeros((len(texts), self._weighted.shape[1]), dtype=np.float32)
        for at in range(0, len(texts), BATCH):
            out[at : at + BATCH] = ngram_counts(texts[at : at + BATCH]) @ self._weighted
        return _unit(out)

    def map_xy(self, vectors: Floats) -> Floats:
        """Where vectors (n, d) lie on the map, shape (n, 2): two principal components."""
        return ((vectors - self._origin) @ self._axes).astype(np.float32)

    @cached_property
    def version(self) -> str:
        """sha256 of the scheme and every number; other vectors, other version."""
        whole = hashlib.sha256(_SCHEME.encode())
        for name, array in self._arrays.items():
            whole.update(f"{name}{array.shape}".encode() + array.tobytes())
        return whole.hexdigest()

    def save(self, path: Path) -> None:
        """Write a .npz of float16 arrays; a reader never sees half of it."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **self._arrays)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: if the file is not an embedder.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = {"idf", "components", "origin", "axes"} - set(stored.files)
            if missing:
                raise ValueError(
                    f"{path} is not an embedder: it lacks {', '.join(sorted(missing))}"
                )
            return cls({name: stored[name] for name in stored.files})
