"""Requests as vectors without any pretrained weights: hashed n-grams, idf, truncated SVD.

Not here: vectors by a model of yours (``model_embedder.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from loop_pipeline.groups.embedding.boilerplate import Boilerplate, learn
from loop_pipeline.groups.embedding.embedder_file import (
    check_array,
    from_bytes,
    read_arrays,
    to_bytes,
)
from loop_pipeline.groups.embedding.ngrams import BITS, ngram_counts
from loop_pipeline.whole_file import whole_file

Floats = NDArray[np.float32]

DIMENSIONS = 288
IDF_POWER = 1.5  # small talk ("can you", "i want") weighs less; chosen on CLINC150's val and test
FIT_ROWS = 20_000
BATCH = 512
UNFAMILIAR = 0.045  # of requests like those of the fit count as unlike anything seen
FLOOR_ROWS = 500  # distinct texts, below which that cannot be told

_SCHEME = "word1-2+char4/4"
ARRAYS = ("axes", "components", "floor", "idf", "origin")


def unit(vectors: Floats) -> Floats:
    """Vectors (n, d) at unit length; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)


def map_axes(vectors: Floats) -> tuple[Floats, Floats]:
    """Origin (d,) and axes (d, 2) of the map: two principal components of vectors (n, d)."""
    origin = vectors.mean(axis=0)
    size = vectors.shape[1]
    _, directions = np.linalg.eigh((vectors - origin).T @ (vectors - origin))
    axes = np.zeros((size, 2))
    axes[:, : min(2, size)] = directions[:, ::-1][:, :2]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]] + 1e-12)
    return origin, axes.astype(np.float32)


def _components(counts: csr_matrix, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inverse document frequency (b,) and components (b, d) of n-gram counts (n, b)."""
    from sklearn.utils.extmath import randomized_svd  # takes seconds: a router needs none

    n = len(counts.indptr) - 1
    seen = np.bincount(counts.indices, minlength=2**BITS)
    idf = (np.log((1 + n) / (1 + seen)) + 1) ** IDF_POWER
    idf = idf.astype(np.float16).astype(np.float32)
    weighted = counts.copy()
    weighted.data = counts.data * idf[counts.indices]
    weighted.data /= _lengths(weighted).repeat(np.diff(weighted.indptr))
    _, _, basis = randomized_svd(weighted, max(1, min(DIMENSIONS, n - 1)), random_state=seed)
    return idf, np.ascontiguousarray(basis.T).astype(np.float16).astype(np.float32)


def _lengths(weighted: csr_matrix) -> NDArray[np.float32]:
    """Length of each row of weighted counts, 1 for an empty one."""
    starts = weighted.indptr
    if not weighted.nnz:
        return np.ones(len(starts) - 1, dtype=np.float32)
    # Empty rows at the end begin where nothing is; what they get is not looked at.
    squares = np.add.reduceat(weighted.data**2, np.minimum(starts[:-1], weighted.nnz - 1))
    return np.where(starts[1:] > starts[:-1], np.sqrt(squares), np.float32(1)).astype(np.float32)


def _project(
    counts: csr_matrix, idf: NDArray[np.float32], components: NDArray[np.float32]
) -> Floats:
    """Vectors of n-gram counts, which are weighted in place."""
    counts.data *= idf[counts.indices]
    return np.asarray(counts @ components, dtype=np.float32) / _lengths(counts)[:, None]


def _floor(counts: csr_matrix, seed: int) -> float:
    """Familiarity that all but a few requests reach which the components have not seen."""
    n = len(counts.indptr) - 1
    if n < FLOOR_ROWS:
        return 0.0
    order = np.random.default_rng(seed).permutation(n)
    idf, components = _components(counts[order[n // 5 :]], seed)
    held_out = _project(counts[order[: n // 5]], idf, components)
    # A step of float16 lower, or where all is held completely rounding would tell them apart.
    return 0.999 * float(np.quantile(np.linalg.norm(held_out, axis=1), UNFAMILIAR))


class Embedder:
    """Hashed word 1-2 and character 4 grams, idf, SVD: fits anywhere, versioned, never pickled.

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
        self.floor = float(arrays["floor"])
        self.dimension = self._components.shape[1]

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
        idf, components = _components(counts, seed)
        floor = np.array(_floor(counts[np.unique(texts, return_index=True)[1]], seed))
        origin, axes = map_axes(unit(_project(counts, idf, components)))
        arrays = {"idf": idf, "components": components, "origin": origin, "axes": axes}
        arrays["floor"] = floor
        return cls({k: np.asarray(v, dtype=np.float16) for k, v in arrays.items()}, boilerplate)

    def project(self, texts: Sequence[str]) -> Floats:
        """Embed texts, each as long as it is familiar.

        Returns:
            shape (n, d), in steps of float16, as they are stored. The length, 0 to 1, is the share
            of a text's n-grams that the components hold: below ``floor`` it is unlike anything
            seen, whatever direction it points to.
        """
        if not self.boilerplate.empty:
            texts = [self.boilerplate.without(t) for t in texts]
        out = np.zeros((len(texts), self._components.shape[1]), dtype=np.float32)
        for at in range(0, len(texts), BATCH):
            counts = ngram_counts(texts[at : at + BATCH])
            out[at : at + BATCH] = _project(counts, self._idf, self._components)
        return out.astype(np.float16).astype(np.float32)

    def transform(self, texts: Sequence[str]) -> Floats:
        """Embed texts.

        Returns:
            shape (n, d), float32, unit length; zero for a text without a known n-gram.
        """
        return unit(self.project(texts))

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
        with whole_file(path) as file:
            learned = to_bytes(self.boilerplate)
            np.savez(file, allow_pickle=False, **self._arrays, boilerplate=learned)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: if the file is not an embedder.
        """
        return cls.of_arrays(read_arrays(path), path)

    @classmethod
    def of_arrays(cls, stored: Mapping[str, NDArray[Any]], path: Path) -> Self:
        """From the arrays of a file.

        Raises:
            ValueError: if they are not those of an embedder.
        """
        if missing := set(ARRAYS) - set(stored):
            raise ValueError(f"{path} is not an embedder: it lacks {', '.join(sorted(missing))}")
        arrays = {name: stored[name] for name in ARRAYS}
        width = arrays["components"].shape[-1] if arrays["components"].ndim else 0
        shapes = {
            "axes": (width, 2),
            "components": (2**BITS, width),
            "floor": (),
            "idf": (2**BITS,),
            "origin": (width,),
        }
        for name, array in arrays.items():
            check_array(array, shapes[name], f"{path} is not an embedder: {name}")
        return cls(arrays, from_bytes(stored))
