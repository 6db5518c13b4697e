"""Do the requests of a window still look like those the groups were made from?

It asks for a look. It never trains anything and never takes a promise back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Vectors = NDArray[np.float32]

MIN_WINDOW = 50  # fewer requests show 20% of novel ones too seldom to be worth a number
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
    window: Vectors, reference: Vectors, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Novelty:
    """Two-sample test of a window of requests against reference requests.

    Method: unbiased squared maximum mean discrepancy with an RBF kernel at the median distance
    (Gretton et al. 2012), p-value over seeded permutations of who is in the window. All
    permutations are sums over one kernel matrix, whose rows' total is the same for each.

    Args:
        window: vectors of the requests in question, shape (m, d).
        reference: vectors of requests from the time the groups were fitted, shape (n, d); none of
            the window's own.
        seed: of the permutations.
        permutations: how many; the smallest p-value is 1 / (permutations + 1).

    Returns:
        Statistic, p-value and a sentence; only the sentence if there are too few rows.
    """
    m, n = len(window), len(reference)
    if min(m, n) < MIN_WINDOW:
        return Novelty(
            statistic=None,
            p_value=None,
            window=m,
            reference=n,
            sentence=f"Not compared: {m} requests in the window and {n} to compare them with, "
            f"at least {MIN_WINDOW} of each are needed.",
        )
    pooled = np.vstack([window, reference]).astype(np.float64)
    kernel = _kernel(pooled - pooled.mean(axis=0), seed)
    rng = np.random.default_rng(seed)
    inside = np.zeros((m + n, permutations + 1), dtype=np.float32)
    inside[:m, 0] = 1
    for draw in range(1, permutations + 1):
        inside[rng.permutation(m + n)[:m], draw] = 1
    within = np.einsum("ij,ij->j", inside, kernel @ inside, dtype=np.float64)
    touching = kernel.sum(axis=1, dtype=np.float64) @ inside
    outside = kernel.sum(dtype=np.float64) - 2 * touching + within
    across = touching - within
    statistics = within / (m * (m - 1)) + outside / (n * (n - 1)) - 2 * across / (m * n)
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
