"""Proof that what is learned from and what is held out share nothing.

Not here: deciding the splits (``splits.py``).

Four ways to share: the same text, a near-duplicate (Jaccard similarity of character 5-grams of at
least 0.7, the same numbers), thirteen words in a row, a conversation. The join over all pairs is
exact: no sampling and no hashing of sets can hide a pair. Used twice: to leave rows out, and on the
frozen files, read back, to show that none was left in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from loop_pipeline.training.dataset.near_duplicates import jaccard
from loop_pipeline.training.dataset.shingles import (
    numbers,
    plain_text,
    shingle,
    without_runs,
    word_runs,
)
from loop_pipeline.training.dataset.splits import RELATED, Background, background
from loop_pipeline.whole_file import read_rows

# The files of a training set, and the splits that each may share nothing with.
FENCES = {
    "train": ("validation", "calibration", "gold"),
    "validation": ("calibration", "gold"),
    "preferences": ("validation", "calibration", "gold"),
    "feedback": ("validation", "calibration", "gold"),
}
ROWS = 500  # compared at a time with everything held out
COMMON = 6  # members that sets must share before they are compared as a whole
WAYS = ("text", "near_duplicate", "run_of_words", "conversation")

Ints = NDArray[np.int64]


def shared(rows: pd.DataFrame, held_out: pd.DataFrame, common: Background) -> pd.DataFrame:
    """Rows that share something with a held-out row.

    Args:
        rows: prompt_id, text, conversation_id.
        held_out: the same columns.
        common: of all traces.

    Returns:
        prompt_id, way (one of ``WAYS``, the first that holds) and with (a held-out prompt id).
    """
    if rows.empty or held_out.empty:
        return pd.DataFrame(columns=pd.Index(["prompt_id", "way", "with"]))
    ids = rows["conversation_id"].where(rows["conversation_id"].isin(common.conversations))
    found = {
        "text": _equal(rows["text"], held_out["text"]),
        **_alike(rows["text"].tolist(), held_out["text"].tolist(), common),
        "conversation": _equal(ids, held_out["conversation_id"]),
    }
    parts = [
        pd.DataFrame(
            {
                "prompt_id": rows["prompt_id"].to_numpy()[found[way] >= 0],
                "way": way,
                "with": held_out["prompt_id"].to_numpy()[found[way][found[way] >= 0]],
            }
        )
        for way in WAYS
    ]
    return pd.concat(parts, ignore_index=True).drop_duplicates("prompt_id")


def audit(folder: Path, traces: pd.DataFrame) -> dict[str, int]:
    """Count the rows of a frozen set that share something with a held-out trace.

    Args:
        folder: of the set; its files are read, not what was meant to be in them.
        traces: settled traces with prompt_id, text, conversation_id and split.

    Returns:
        The number of such rows by way, and ``prompt_id``: rows that are held out themselves.
    """
    counts: dict[str, int] = dict.fromkeys(("prompt_id", *WAYS), 0)
    common = background(traces)
    of_prompt = traces.set_index("prompt_id")["conversation_id"]
    for name, splits in FENCES.items():
        mend = "materialize training_set to write it anew"
        frozen = list(read_rows(folder / f"{name}.jsonl", ("prompt_id", "prompt"), mend=mend))
        rows = pd.DataFrame(
            {
                "prompt_id": [row["prompt_id"] for row in frozen],
                "text": [plain_text(row["prompt"]) for row in frozen],
            }
        )
        rows["conversation_id"] = rows["prompt_id"].map(of_prompt)
        held_out = traces[traces["split"].isin(splits)]
        counts["prompt_id"] += int(rows["prompt_id"].isin(set(held_out["prompt_id"])).sum())
        found = shared(rows, held_out, common)
        for way, rows_of in found.groupby("way"):
            counts[str(way)] += len(rows_of)
    return counts


def _equal(mine: pd.Series, theirs: pd.Series) -> Ints:
    """Of each value the place of an equal one among theirs, or -1; missing values equal nothing."""
    known = theirs.dropna().drop_duplicates()
    place = dict(zip(known, theirs.index.get_indexer(known.index), strict=True))
    return np.array([place.get(value, -1) for value in mine], dtype=np.int64)


def _alike(mine: Sequence[str], theirs: Sequence[str], common: Background) -> dict[str, Ints]:
    mine, theirs = without_runs(mine, common.template), without_runs(theirs, common.template)
    near, runs = np.full(len(mine), -1), np.full(len(mine), -1)
    left, right = pairs_above(mine, theirs, RELATED)
    near[left] = right
    row, hashed, _ = word_runs(mine)
    row_held, held, _ = word_runs(theirs)
    telling = ~np.isin(held, common.runs)
    row_held, held = row_held[telling], held[telling]
    if len(held):
        order = np.argsort(held, kind="stable")
        at = np.minimum(np.searchsorted(held[order], hashed), len(held) - 1)
        same = held[order][at] == hashed
        runs[row[same]] = row_held[order][at][same]
    return {"near_duplicate": near, "run_of_words": runs}


def pairs_above(mine: Sequence[str], theirs: Sequence[str], threshold: float) -> tuple[Ints, Ints]:
    """Every pair of one of mine and one of theirs that is alike.

    Exact: sets of n members that are alike share ``COMMON`` of the n - threshold n + ``COMMON``
    that are rarest, so that only those are joined (prefix filter; Bayardo, Ma and Srikant 2007;
    with more than one member, Wang, Li and Feng 2012).

    Returns:
        Places among mine and among theirs.
    """
    left, right = shingle(mine), shingle(theirs)
    both = csr_matrix(vstack([left, right]))
    least = np.ceil(threshold * np.diff(both.indptr) - 1e-9)
    rare = _rarest(both, numbers([*mine, *theirs]), np.diff(both.indptr) - least + COMMON)
    first, second = rare[: len(mine)], rare[len(mine) :].T.tocsr()
    need, need_held = np.split(np.clip(least, 1, COMMON), [len(mine)])
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(mine), ROWS):
        joined = (first[start : start + ROWS] @ second).tocoo()
        a, b = joined.row.astype(np.int64) + start, joined.col.astype(np.int64)
        enough = joined.data >= np.minimum(need[a], need_held[b])
        a, b = a[enough], b[enough]
        alike = jaccard(left, a, right, b) >= threshold
        pairs.append((a[alike], b[alike]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _rarest(sets: csr_matrix, kinds: Ints, wanted: NDArray[np.float64]) -> csr_matrix:
    """Of each set as many members as wanted, those that the fewest sets of its kind have."""
    size = np.diff(sets.indptr)
    row = np.repeat(np.arange(len(size)), size)
    of_kind = np.unique(kinds, return_inverse=True)[1][row].astype(np.int64) << 30 | sets.indices
    _, column, count = np.unique(of_kind, return_inverse=True, return_counts=True)
    by_count = np.argsort(count, kind="stable")  # the rarest is number 0
    place = np.empty_like(by_count)
    place[by_count] = np.arange(len(count))
    key = np.sort(row.astype(np.uint64) << np.uint64(32) | place[column].astype(np.uint64))
    row, column = (key >> np.uint64(32)).astype(np.int64), key & np.uint64(2**32 - 1)
    rank = np.arange(len(row)) - np.repeat(sets.indptr[:-1], size)
    kept = (rank < wanted[row]) & (count[by_count][column] > 1)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(size)))])
    return csr_matrix(
        (np.ones(int(kept.sum()), np.float32), column[kept], starts), shape=(len(size), len(count))
    )
