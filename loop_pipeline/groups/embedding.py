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
from sklearn.utils.extmath import randomized_svd

from loop_pipeline.groups.boilerplate import Boilerplate, learn

Floats = NDArray[np.float32]

MAX_CHARS = 20_000  # read of one request; more says nothing about its task
BITS = 15  # 2^15 buckets of n-grams
DIMENSIONS = 192
IDF_POWER = 1.5  # small talk ("can you", "i want") weighs less; chosen on CLINC150's val and test
FIT_ROWS = 20_000
BATCH = 512

_BASE, _MASK = 0x9E3779B97F4A7C15, 2**64 - 1
_INVERSE = pow(_BASE, -1, 2**64)
_WORD = re.compile(r"\w+")
_SCHEME = "word1-2+char3-5/2"
_ONES = np.ones(2**BITS, dtype=np.float32)
ARRAYS = ("axes", "components", "idf", "origin")


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


def _ngrams(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and bucket of every n-gram of the texts.

    Character n-grams stay inside a word, its two spaces included. All hashes of a batch are cut
    from one prefix sum of a polynomial hash, so that one request and a million take the same path.
    """
    clean = [f" {' '.join(_WORD.findall(t[:MAX_CHARS].lower()))} " for t in texts]
    codes = np.frombuffer("".join(clean).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = [len(c) for c in clean]
    row = np.repeat(np.arange(len(texts)), lengths)
    prefix = np.zeros(len(codes) + 1, dtype=np.uint64)
    bits = max(12, len(codes).bit_length())
    np.cumsum(codes * _powers(_BASE, bits)[: len(codes)], out=prefix[1:])
    inverse = _powers(_INVERSE, bits)

    def hashed(start: NDArray[np.intp], end: NDArray[np.intp], salt: int) -> NDArray[np.int64]:
        return _bucket((prefix[end] - prefix[start]) * inverse[start], salt)

    space = codes == 32
    spaces = np.concatenate([[0], np.cumsum(space)])
    rows, buckets = [], []
    for n in (3, 4, 5):
        start = np.arange(max(len(codes) - n + 1, 0))
        start = start[spaces[start + n - 1] == spaces[start + 1]]  # no space in the interior
        rows.append(row[start])
        buckets.append(hashed(start, start + n, n))
    start = np.flatnonzero(~space[1:] & space[:-1]) + 1
    end = np.flatnonzero(space[1:] & ~space[:-1]) + 1
    rows.append(row[start])
    buckets.append(hashed(start, end, 1))
    pair = np.flatnonzero(row[start[1:]] == row[start[:-1]])
    rows.append(row[start[pair]])
    buckets.append(hashed(start[pair], end[pair + 1], 2))
    return np.concatenate(rows), np.concatenate(buckets)


def ngram_counts(texts: Sequence[str]) -> csr_matrix:
    """Sublinear n-gram counts, shape (n, 2^BITS)."""
    row, bucket = _ngrams(texts)
    key, count = np.unique((row << BITS) | bucket, return_counts=True)
    starts = np.searchsorted(key, np.arange(len(texts) + 1) << BITS)
    values = (1 + np.log(count)).astype(np.float32)
    return csr_matrix((values, key & (2**BITS - 1), starts), shape=(len(texts), 2**BITS))


def unit(vectors: Floats) -> Floats:
    """Vectors (n, d) at unit length; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)


def to_bytes(boilerplate: Boilerplate) -> NDArray[np.uint8]:
    """Learned boilerplate as an array of a .npz."""
    return np.frombuffer(boilerplate.model_dump_json().encode(), dtype=np.uint8)


def from_bytes(stored: Mapping[str, NDArray[np.uint8]]) -> Boilerplate:
    """What ``to_bytes`` made; files from before boilerplate was learned have none."""
    if "boilerplate" not in stored:
        return Boilerplate()
    return Boilerplate.model_validate_json(stored["boilerplate"].tobytes())


def map_axes(vectors: Floats) -> tuple[Floats, Floats]:
    """Origin (d,) and axes (d, 2) of the map: two principal components of vectors (n, d)."""
    origin = vectors.mean(axis=0)
    size = vectors.shape[1]
    _, directions = np.linalg.eigh((vectors - origin).T @ (vectors - origin))
    axes = np.zeros((size, 2))
    axes[:, : min(2, size)] = directions[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]] + 1e-12)
    return origin, axes.astype(np.float32)


class Embedder:
    """Hashed word 1-2 and character 3-5 grams, idf, SVD: fits anywhere, versioned, never pickled.

    Method: the weightless embedding measured on CLINC150 and BANKING77 (TF-IDF, SVD).
    """

    source = ""
    """Of ``LOOP_EMBEDDER``: this one needs no model."""

    def __init__(
        self, arrays: Mapping[str, NDArray[np.float16]], boilerplate: Boilerplate | None = None
    ) -> None:
        self.boilerplate = boilerplate or Boilerplate()
        self._arrays = {k: arrays[k].astype(np.float16) for k in sorted(arrays)}
        self._idf, self._components, self._origin, self._axes = (
            arrays[k].astype(np.float32) for k in ("idf", "components", "origin", "axes")
        )

    @classmethod
    def fit(cls, texts: Sequence[str], seed: int) -> Self:
        """Learn boilerplate, idf, components and map axes.

        Args:
            texts: training requests; a seeded sample of 20,000 is used if there are more.
            seed: of the sample and of the randomised SVD.

        Raises:
            ValueError: if no text holds a single word.
        """
        rng = np.random.default_rng(seed)
        if len(texts) > FIT_ROWS:
            texts = [str(texts[i]) for i in np.sort(rng.permutation(len(texts))[:FIT_ROWS])]
        boilerplate = learn(texts)
        counts = ngram_counts([boilerplate.without(t) for t in texts])
        if counts.nnz == 0:
            raise ValueError(f"cannot fit an embedder: none of the {len(texts)} texts has a word")
        seen = np.bincount(counts.indices, minlength=2**BITS)
        idf = ((np.log((1 + len(texts)) / (1 + seen)) + 1) ** IDF_POWER).astype(np.float16)
        weighted = counts.multiply(idf.astype(np.float32)).tocsr()
        scale = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)))
        weighted = weighted.multiply(1 / np.where(scale == 0, 1, scale)).tocsr()
        size = max(1, min(DIMENSIONS, len(texts) - 1))
        _, _, basis = randomized_svd(weighted, size, random_state=seed)
        components = np.ascontiguousarray(basis.T).astype(np.float16)
        vectors = unit(np.asarray(weighted @ components.astype(np.float32)))
        origin, axes = map_axes(vectors)
        arrays = {"idf": idf, "components": components, "origin": origin, "axes": axes}
        return cls({k: np.asarray(v, dtype=np.float16) for k, v in arrays.items()}, boilerplate)

    def transform(self, texts: Sequence[str]) -> Floats:
        """Embed texts.

        Returns:
            shape (n, d), float32. The length, at most about 1, is the share of a text that the
            training texts explain: what is new to them lies far from every centroid. Zero for a
            text without a known n-gram.
        """
        if not self.boilerplate.empty:
            texts = [self.boilerplate.without(t) for t in texts]
        out = np.zeros((len(texts), self._components.shape[1]), dtype=np.float32)
        for at in range(0, len(texts), BATCH):
            counts = ngram_counts(texts[at : at + BATCH])
            counts.data *= self._idf[counts.indices]
            part = counts @ self._components
            counts.data *= counts.data
            whole = np.sqrt(counts @ _ONES)
            out[at : at + BATCH] = part / np.where(whole == 0, 1, whole)[:, None]
        return out

    def map_xy(self, vectors: Floats) -> Floats:
        """Where vectors (n, d) lie on the map, shape (n, 2): two principal components."""
        return ((vectors - self._origin) @ self._axes).astype(np.float32)

    @cached_property
    def version(self) -> str:
        """sha256 of the scheme and every number; other vectors, other version."""
        whole = hashlib.sha256(_SCHEME.encode())
        if not self.boilerplate.empty:
            whole.update(self.boilerplate.model_dump_json().encode())
        for name, array in self._arrays.items():
            whole.update(f"{name}{array.shape}".encode() + array.tobytes())
        return whole.hexdigest()

    def save(self, path: Path) -> None:
        """Write a .npz of float16 arrays; a reader never sees half of it."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            learned = to_bytes(self.boilerplate)
            np.savez(file, allow_pickle=False, **self._arrays, boilerplate=learned)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: if the file is not an embedder.
        """
        with np.load(path, allow_pickle=False) as stored:
            missing = set(ARRAYS) - set(stored.files)
            if missing:
                raise ValueError(
                    f"{path} is not an embedder: it lacks {', '.join(sorted(missing))}"
                )
            return cls({name: stored[name] for name in ARRAYS}, from_bytes(stored))
