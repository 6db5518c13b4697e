"""How far a group reaches: its radius, and how much of a request must be known.

Who belongs to a group is in ``refit``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.groups.clustering.refit_inputs import Requests
from loop_pipeline.groups.embedding.embedder import UNFAMILIAR

# Of a group's members within its radius: where the embedder says what it does not know, distance
# has little to add (CLINC150: 5 to 30% of strange requests seen, by familiarity 50%).
MEMBER_SHARE = 0.998


MEMBER_SHARE_ALONE = 0.96


def member_share(requests: Requests) -> float:
    """Share of a group's members that its radius takes in."""
    return MEMBER_SHARE if requests.floor > 0 else MEMBER_SHARE_ALONE


def floor_of(requests: Requests, own: NDArray[np.bool_]) -> float:
    """How much of a request must be known: as for all groups, less for a group of new wording."""
    known = requests.known[own]
    least = float(np.quantile(known, UNFAMILIAR)) if len(known) else 0.0
    return round(min(requests.floor, 0.999 * least), 5)  # below what rounding does to alike rows
