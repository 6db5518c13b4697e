"""Do the requests of a window still look like those the groups were made from?

It asks for a look. It never trains anything and never takes a promise back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Vectors = NDArray[np.float32]
Units = NDArray[np.int64]

MIN_WINDOW = 50  # fewer requests show 20% of novel ones too seldom to be worth a number
MIN_UNITS = 5  # 252 ways to choose five of ten: fewer can hardly ring at all
# Where nobody says what belongs together, so many requests that follow each other do.
BLOCK = 10
PERMUTATIONS = 200
ALARM = 0.05  # p-value from which on the requests count as unlike the reference
MEDIAN_PAIRS = 1_000  # rows that the median distance is read from


class Novelty(BaseModel):
    """Result of one comparison; statistic and p-value are None where no number can be given."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    statistic: float | None
    p_value: float | None
    window: int
    reference: int
    sentence: str


def _kernel(vectors: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """RBF kernel (n, n) at the median distance of the pooled rows; zeros on the diagonal."""
    rows = np.random.default_rng(seed).permutation(len(vectors))[:MEDIAN_PAIRS]
    squares = np.sum(vectors**2, axis=1)
    distance = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    np.maximum(distance, 0, out=distance)
    some = distance[np.ix_(rows, rows)]
    median = float(np.median(some[np.triu_indices(len(rows), 1)]))
    if median <= 0:  # half of all rows are one and the same
        median = float(distance.mean()) or 1.0
    kernel = np.exp(-distance / median).astype(np.float32)
    np.fill_diagonal(kernel, 0)
    return kernel


def novelty(
    window: Vectors,
    reference: Vectors,
    window_units: Units | None = None,
    reference_units: Units | None = None,
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Novelty:
    """Two-sample test of a window of requests against reference requests, by units.

    Requests of one conversation, or of one burst, are alike, and so a window looks unlike any
    reference as soon as it has others in it. What is compared and permuted are therefore units.

    Method: unbiased squared maximum mean discrepancy with an RBF kernel at the median distance
    (Gretton et al. 2012) over pairs of requests of units that are no neighbours, p-value over
    seeded permutations of which units are in the window. All are sums over one matrix.

    Args:
        window: vectors of the requests in question, shape (m, d), as they came.
        reference: vectors of requests from the time the groups were fitted, shape (n, d); none of
            the window's own.
        window_units: number of the unit of each request, such as its conversation, shape (m,), in
            the order of time: two whose numbers differ by one are not held against each other.
            None: each ``BLOCK`` requests that follow each other.
        reference_units: the same of the reference; its numbers say nothing of the window's.
        seed: of the permutations.
        permutations: how many; the smallest p-value is 1 / (permutations + 1).

    Returns:
        Statistic, p-value and a sentence; only the sentence if there is too little to compare.
    """
    m, n = len(window), len(reference)
    ours, which = np.unique(_in_blocks(window_units, m), return_inverse=True)
    theirs, also = np.unique(_in_blocks(reference_units, n), return_inverse=True)
    k, units = len(ours), len(ours) + len(theirs)
    if min(m, n) < MIN_WINDOW or min(k, units - k) < MIN_UNITS:
        return Novelty(
            statistic=None,
            p_value=None,
            window=m,
            reference=n,
            sentence=f"Not compared: {m} requests in the window and {n} to compare them with, "
            f"at least {MIN_WINDOW} of each are needed, from {MIN_UNITS} conversations or bursts "
            f"(there are {k} and {units - k}).",
        )
    pooled = np.vstack([window, reference]).astype(np.float64)
    kernel = _kernel(pooled - pooled.mean(axis=0), seed)
    which = np.concatenate([which, also + k])
    pairs = _compared(np.concatenate([ours, theirs]), k, np.bincount(which).astype(float))
    sums = _by_unit(_by_unit(kernel, which, units).T, which, units) * (pairs > 0)
    rng = np.random.default_rng(seed)
    inside = np.zeros((units, permutations + 1))
    inside[:k, 0] = 1
    for draw in range(1, permutations + 1):
        inside[rng.permutation(units)[:k], draw] = 1
    statistics = _discrepancy(sums, pairs, inside)
    # Equal up to rounding counts as larger: rows that are all alike must not raise an alarm.
    larger = int(np.sum(statistics[1:] >= statistics[0] - 1e-9))
    p_value = (larger + 1) / (permutations + 1)
    look = "look unlike" if p_value <= ALARM else "cannot be told from"
    return Novelty(
        statistic=float(statistics[0]),
        p_value=p_value,
        window=m,
        reference=n,
        sentence=f"{m} requests {look} the {n} reference requests (p = {p_value:.3f}).",
    )


def _in_blocks(units: Units | None, rows: int) -> Units:
    return np.arange(rows) // BLOCK if units is None else units


def _by_unit(rows: NDArray[np.floating], which: Units, units: int) -> NDArray[np.float64]:
    """Sums of rows by unit, shape (units, columns)."""
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(units))
    return np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)


def _compared(names: Units, k: int, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many pairs of requests count for each pair of units, 0 within one and of neighbours.

    A burst may lie across the border of two units that follow each other.
    """
    pairs = np.outer(sizes, sizes)
    apart = np.abs(names[:, None] - names[None, :])
    apart[:k, k:] = apart[k:, :k] = 2  # numbers of the window say nothing of the reference's
    pairs[apart <= 1] = 0
    return pairs


def _discrepancy(
    sums: NDArray[np.float64], pairs: NDArray[np.float64], inside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The statistic for each choice of units, the columns of ``inside``."""
    outside = 1 - inside
    sides = ((inside, inside), (outside, outside), (inside, outside))
    means = [
        np.einsum("ij,ij->j", one, sums @ other)
        / np.maximum(np.einsum("ij,ij->j", one, pairs @ other), 1)
        for one, other in sides
    ]
    return means[0] + means[1] - 2 * means[2]
