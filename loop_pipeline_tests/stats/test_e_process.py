"""Evidence that one may look at at any time: processes that begin again find a late change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_pipeline.stats.e_process import AT_ONCE, EVERY, LIFE, RESTART, restarted_e_values


def by_hand(values: list[int], bound: float) -> float:
    """The definition after the last value, product by product."""
    bets = [0.05 / bound * bet for bet in (0.5, 1, 2, 4, 8)]
    later = (1 - AT_ONCE) / (RESTART // EVERY - 1)

    def wealth(seen: list[int]) -> float:
        found = 0.0
        for start in range(0, RESTART, EVERY):
            gains = (math.prod(1 + bet * (x - bound) for x in seen[start:]) for bet in bets)
            found += (later if start else AT_ONCE) * sum(gains) / len(bets)
        return found

    begins = [b for b in range(0, len(values), RESTART) if len(values) <= b + LIFE]
    return max(wealth(values[begin:]) for begin in begins)


@settings(max_examples=25, deadline=None)
@given(
    share=st.sampled_from([0.0, 0.02, 0.1]),
    bound=st.sampled_from([0.01, 0.05, 0.3]),
    rows=st.integers(1, 2_600),
    seed=st.integers(0, 99),
)
def test_it_is_the_highest_of_all_products_that_live(
    share: float, bound: float, rows: int, seed: int
) -> None:
    values = (np.random.default_rng(seed).random(rows) < share).astype(int).tolist()
    wanted = by_hand(values, bound)
    found = float(restarted_e_values(values, bound)[-1])
    assert found == pytest.approx(wanted, rel=1e-6) if wanted < 1e11 else found >= 1e11


def test_nothing_seen_is_no_evidence() -> None:
    assert restarted_e_values([], 0.05).tolist() == []


def test_one_that_begins_anew_hears_what_an_old_one_is_deaf_to() -> None:
    values = np.concatenate([np.zeros(LIFE), np.tile([1, 0, 0, 0, 0], 20)])
    assert restarted_e_values(values, 0.05)[-1] >= 100
    old = np.prod([1 + 0.5 * (x - 0.05) for x in values])
    assert old < 1
