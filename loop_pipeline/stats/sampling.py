"""Coins that always fall the same way for an id, and uniform samples made with them.

Not here: who is drawn for what.

Which requests are drawn, and how often, is decided where they are drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from loop_pipeline.hashing import digest

if TYPE_CHECKING:
    import pandas as pd


def coin(seed: int | str, key: str) -> float:
    """A number in [0, 1) that is always the same for a seed and a key, often a prompt id.

    Below a rate it is for that share of keys, and who is drawn at one rate is drawn at every higher
    one. Another seed draws others.
    """
    return int(digest("coin", str(seed), key)[:13], 16) / 16**13


def shadow_coin(prompt_id: str) -> float:
    """The number that has to be below a shadow share for a request to be drawn."""
    return coin("shadow", prompt_id)


def uniform_sample(p_review: pd.Series, *, seed: int | str = "thin") -> pd.Series:
    """Whether each reviewed row belongs to a uniform sample: kept with chance p_min / p.

    Args:
        p_review: indexed by prompt_id, all above 0.
        seed: of the coin, another one than the draw's.
    """
    keep = p_review.min() / p_review
    points = np.array([coin(seed, str(prompt_id)) for prompt_id in p_review.index])
    return keep > points
