"""Calibration rows of one group as a test takes them: scored, with their units and repeats.

Not here: what is tested on them (``certificate.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop_pipeline.stats.fixed_sequence import Codes, Right, Scores


class UsableRows(NamedTuple):
    """Rows whose answers may be served, each of shape (n,)."""

    score: Scores
    right: Right
    code: Codes
    """Of the unit a row belongs to."""
    times: Scores
    """How often the request was asked."""
    asked: int
    """How often those were asked whose answers are never served, these included."""
    never: int
    """Rows whose answers are never served."""
    names: NDArray[np.object_]
    """Of the units, by code."""

    def largest(self) -> tuple[str, float]:
        """The unit that most of the traffic is of, and its share."""
        weight = np.bincount(self.code, self.times, minlength=len(self.names))
        at = int(weight.argmax())
        return str(self.names[at]), float(weight[at] / weight.sum())


def usable_rows(
    conf: Scores, agree: Right, unit: ArrayLike | None = None, times: ArrayLike | None = None
) -> UsableRows:
    """The rows of a group that a threshold may accept.

    Args:
        conf: shape (n,), NaN for an answer the router would never serve.
        agree: shape (n,).
        unit: shape (n,), names of units; None: each row by itself.
        times: shape (n,), how often each request was asked; None: once.
    """
    asked = np.ones(len(conf)) if times is None else np.asarray(times, dtype=float)
    whose = np.arange(len(conf)) if unit is None else np.asarray(unit)
    finite = np.isfinite(conf)
    names, code = np.unique(whose[finite].astype(str), return_inverse=True)
    return UsableRows(
        score=conf[finite],
        right=agree[finite].astype(bool),
        code=code.astype(np.int64),
        times=asked[finite],
        asked=int(asked.sum()),
        never=int((~finite).sum()),
        names=names.astype(object),
    )
