"""What a refit looks at: the rows of one template, its groups so far, and how far it may divide.

What becomes of the groups is in ``lifecycle``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.embedding.embedder import Floats
from loop_pipeline.groups.registry import Group

Rows = NDArray[np.bool_]


@dataclass(eq=False)
class Unit:
    """A group while it is fitted: its centroid, and its row in the registry if it has one."""

    group_id: str
    centroid: Floats
    before: Group | None = None
    streak: int = 0
    related_id: str | None = None
    reason: str = ""


class Requests(NamedTuple):
    """Rows of one template: unit vectors (n, d) and what a refit looks at besides."""

    vectors: Floats
    known: Floats
    """How much of a request the embedder knows (n,), and what it has to know at least."""
    floor: float
    texts: pd.Series
    new: Rows
    """Not in the fit before."""
    quality: NDArray[np.float64]
    """P(good) of the answer, NaN where unknown."""
    owner: NDArray[np.object_] | None
    """Group of each row by the fit before."""


class Room(NamedTuple):
    """How far a refit may divide the traffic."""

    calibration_per_row: float
    min_rows: int
    groups: int
    """How many more there may be."""


def stack(units: Sequence[Unit]) -> Floats:
    """Centroids of units, shape (k, d)."""
    return np.stack([u.centroid for u in units])
