"""How many independent rows a set of rows is worth, whose errors come in units.

Not here: which rows are of one unit (``routing/evidence/row_units.py``), and what is promised on
them (``fixed_sequence.py``).

Rows of one unit (a conversation, near-duplicates, repeats of one request) err together, so a test
that counts rows is too sure. The variance of the errors' sum over units, divided by what it would
be on independent rows, is the *design effect* (Kish 1965); rows and errors divided by it go into
the exact binomial test. Where every unit is one row it is exactly 1, and the test is the exact one.

The estimate alone is too small where it matters: a lucky draw misses the units that are wrong as
a whole, and then shows neither the errors nor that they come together. So it is taken as if
further units of the usual size, wrong as a whole, had been seen beside the others; and from fewer
units than an exact test takes rows nothing follows, whatever their rows say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

# Units, wrong as a whole, that the estimate of the design effect supposes beside those seen.
UNSEEN = 1.0


class Effective(NamedTuple):
    """What rows are worth; each a number, or an array with an entry for each first k rows."""

    rows: Floats
    """Independent rows that they are worth: their weight over the design effect."""
    errors: Floats
    """Errors among those."""
    units: Floats
    """Units of equal weight that they are worth: the square of the weight over its squares."""
    design: Floats
    """The design effect, at least 1."""


def effective(error: ArrayLike, unit: ArrayLike, weight: ArrayLike | None = None) -> Effective:
    """What a set of rows is worth.

    Args:
        error: shape (n,), whether a row is an error; a share of it may be.
        unit: shape (n,), codes from 0, of rows that err together.
        weight: shape (n,), requests that each row stands for (how often it was asked); None: one.
    """
    found = np.asarray(error, dtype=float)
    code = np.asarray(unit, dtype=np.int64)
    times = np.ones(len(found)) if weight is None else np.asarray(weight, dtype=float)
    size = np.bincount(code, times)
    wrong = np.bincount(code, times * found)
    sums = (wrong.sum(), size.sum(), wrong @ wrong, wrong @ size, size @ size)
    return _worth(*(np.asarray(value, dtype=float) for value in sums))


def effective_prefixes(
    error: ArrayLike, unit: ArrayLike, weight: ArrayLike | None = None
) -> Effective:
    """What the first 1, 2, ... n rows are worth, in one pass.

    Args:
        error: shape (..., n), as for ``effective``; the leading axes are separate samples.
        unit: shape (..., n).
        weight: shape (..., n); None: one each.

    Returns:
        Arrays of shape (..., n).
    """
    found, code = np.asarray(error, dtype=float), np.asarray(unit, dtype=np.int64)
    times = np.ones(found.shape) if weight is None else np.asarray(weight, dtype=float)
    order = np.argsort(code, axis=-1, kind="stable")
    first = np.ones(found.shape, dtype=bool)
    first[..., 1:] = np.diff(np.take_along_axis(code, order, -1), axis=-1) != 0
    size, wrong = (_before(part, order, first) for part in (times, times * found))
    bad = times * found
    return _worth(
        bad.cumsum(-1),
        times.cumsum(-1),
        (bad * (2 * wrong + bad)).cumsum(-1),
        ((wrong + bad) * (size + times) - wrong * size).cumsum(-1),
        (times * (2 * size + times)).cumsum(-1),
    )


def _before(part: Floats, order: NDArray[np.int64], first: NDArray[np.bool_]) -> Floats:
    """The sum over earlier rows of the same unit, for each row."""
    sums = np.take_along_axis(part, order, -1)
    before = sums.cumsum(-1) - sums
    # Sums only grow, so the last start of a unit is the largest up to here.
    start = np.maximum.accumulate(np.where(first, before, 0.0), axis=-1)
    found = np.empty_like(part)
    np.put_along_axis(found, order, before - start, -1)
    return found


def _worth(y: Floats, w: Floats, yy: Floats, yw: Floats, ww: Floats) -> Effective:
    """From sums over units: of errors y, of weights w, and of their squares and products."""
    usual = np.divide(ww, w, out=np.ones_like(w), where=w > 0)
    more = UNSEEN * usual
    rate = (y + more) / (w + more)
    spread = yy - 2 * rate * yw + rate**2 * ww + UNSEEN * (usual * (1 - rate)) ** 2
    alone = rate * (1 - rate) * (w + more)
    design = np.maximum(np.divide(spread, alone, out=np.ones_like(w), where=alone > 0), 1.0)
    return Effective(w / design, y / design, np.divide(w, usual), design)
