"""Near-duplicates among many texts: MinHash signatures, LSH, and a look at every candidate.

Not here: what follows for a row (``splits.py``, ``selection.py``).

Two texts are alike if the Jaccard similarity of their character 5-grams is high **and** they hold
the same numbers in the same order: an order number, a date or an amount makes it another request,
and traffic that differs in nothing else would otherwise be one request.

The same method as datasketch's ``MinHash`` and ``MinHashLSH`` (Broder 1997; Leskovec et al.,
Mining of Massive Datasets, ch. 3), on arrays: 128 permutations, 32 bands of 4 rows. datasketch
needs about 0.1 ms a text for the permutations alone and keeps every band in dictionaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from loop_pipeline.training.dataset.shingles import ascending, numbers, shingle

PERMUTATIONS = 128
ROWS = 4
CHUNK = 4000  # texts whose shingles stay in the cache while they are permuted
# Texts that fall into one bucket are compared with so many that follow: all pairs of a small
# bucket, and a chain through a large one, whose texts meet in other bands again.
WINDOW = 16
PAIRS = 200_000  # compared at a time
THREADS = 2  # numpy lets go of the interpreter

Ints = NDArray[np.int64]


def similar_pairs(
    texts: Sequence[str], threshold: float, kinds: Ints | None = None
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Pairs of like texts.

    Args:
        texts: distinct texts, as ``shingles.plain_text`` makes them.
        threshold: least Jaccard similarity. A pair at 0.7 is found with chance 0.9998, at 0.8 with
            one that cannot be told from 1.
        kinds: only texts of the same kind are compared.

    Returns:
        First and second text of each pair (first < second), and their similarity.
    """
    sets, held = shingle(texts), numbers(texts)
    if kinds is not None:
        held = held | kinds << 32
    first, second = _candidates(signatures(sets), held)
    likeness = jaccard(sets, first, sets, second)
    alike = likeness >= threshold
    return first[alike], second[alike], likeness[alike]


def signatures(sets: csr_matrix) -> NDArray[np.uint32]:
    """MinHash signatures.

    Args:
        sets: one set a row, as ``shingle`` makes them.

    Returns:
        shape (n, 128); a row of the largest number for an empty set.
    """
    rng = np.random.default_rng(128)
    factors = rng.integers(0, 2**31, PERMUTATIONS, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    offsets = rng.integers(0, 2**32, PERMUTATIONS, dtype=np.uint32)
    count = int(sets.indptr.size) - 1
    found = np.full((count, PERMUTATIONS), 2**32 - 1, np.uint32)

    def permute(start: int) -> None:
        bounds = sets.indptr[start : start + CHUNK + 1]
        values = sets.indices[bounds[0] : bounds[-1]].astype(np.uint32) * np.uint32(2)
        rows = np.flatnonzero(np.diff(bounds))
        starts = bounds[rows] - bounds[0]
        for k in range(PERMUTATIONS if len(rows) else 0):
            hashed = (values ^ offsets[k]) * factors[k]
            found[start + rows, k] = np.minimum.reduceat(hashed ^ (hashed >> 15), starts)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(permute, range(0, count, CHUNK)))
    return found


def _candidates(found: NDArray[np.uint32], held: Ints) -> tuple[Ints, Ints]:
    """Pairs that share a band and their numbers."""

    def band(start: int) -> NDArray[np.uint64]:
        key = held.astype(np.uint64)
        for k in range(start, start + ROWS):
            key = (key ^ found[:, k]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        order = np.argsort(key, kind="stable").astype(np.uint64)
        order = order[(found[:, start] != 2**32 - 1)[order]]
        key, pairs = key[order], []
        for step in range(1, WINDOW + 1):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            pairs.append(order[:-step][same] << np.uint64(32) | order[step:][same])
        return ascending(np.concatenate(pairs)) if pairs else np.zeros(0, np.uint64)

    whole = np.zeros(0, np.uint64)
    with ThreadPoolExecutor(THREADS) as pool:
        for pairs in pool.map(band, range(0, PERMUTATIONS, ROWS)):
            whole = ascending(np.concatenate([whole, pairs]))
    first, second = (whole >> np.uint64(32)), (whole & np.uint64(2**32 - 1))
    same = held[first.astype(np.int64)] == held[second.astype(np.int64)]
    return first[same].astype(np.int64), second[same].astype(np.int64)


def jaccard(left: csr_matrix, rows: Ints, right: csr_matrix, others: Ints) -> NDArray[np.float64]:
    """Similarity of ``left[rows[k]]`` and ``right[others[k]]``; 0 where both are empty."""
    a, b = np.diff(left.indptr)[rows], np.diff(right.indptr)[others]
    shared = np.zeros(len(rows))
    for start in range(0, len(rows), PAIRS):
        part = slice(start, start + PAIRS)
        shared[part] = left[rows[part]].multiply(right[others[part]]).sum(axis=1).A1
    return shared / np.maximum(a + b - shared, 1)


def components(size: int, first: Ints, second: Ints) -> Ints:
    """Number the groups that pairs tie together, shape (size,)."""
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def tied(columns: Sequence[pd.Series]) -> Ints:
    """Number the rows that have a value in common in any of these columns, shape (n,)."""
    rows = len(columns[0])
    first, second, size = [], [], rows
    for column in columns:
        codes = pd.factorize(column)[0]
        has = np.flatnonzero(codes >= 0)
        first.append(has)
        second.append(size + codes[has])
        size += int(codes.max(initial=-1)) + 1
    return components(size, np.concatenate(first), np.concatenate(second))[:rows]
