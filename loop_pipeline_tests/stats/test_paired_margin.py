"""The exact test of a margin errs as rarely as it says, and is not blind."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest

from loop_pipeline.stats.paired_margin import least_rows, within_margin

DRAWS = 400


@lru_cache(maxsize=100_000)
def passes(first: int, second: int, n: int, margin: float) -> bool:
    return within_margin(first, second, n, margin=margin, delta=0.05)


def share_passed(n: int, margin: float, lead: float, second: float, seed: int) -> float:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, [second + lead, second, 1 - 2 * second - lead], size=DRAWS)
    return float(np.mean([passes(int(b), int(c), n, margin) for b, c, _ in counts]))


@pytest.mark.parametrize("second", [0.0, 0.005, 0.02, 0.08])
@pytest.mark.parametrize("n", [150, 400])
def test_a_difference_at_the_margin_passes_as_rarely_as_allowed(n: int, second: float) -> None:
    limit = 0.05 + 3 * (0.05 * 0.95 / DRAWS) ** 0.5
    assert share_passed(n, 0.03, 0.03, second, seed=n) <= limit


def test_it_sees_that_the_first_is_no_worse() -> None:
    assert share_passed(500, 0.02, -0.02, 0.07, seed=1) >= 0.7
    assert share_passed(800, 0.02, 0.0, 0.05, seed=2) >= 0.4


@pytest.mark.parametrize(("margin", "delta"), [(0.02, 0.05), (0.05, 0.005)])
def test_the_least_rows_pass_and_one_less_does_not(margin: float, delta: float) -> None:
    least = least_rows(margin, delta)
    assert within_margin(0, 0, least, margin=margin, delta=delta)
    assert not within_margin(0, 0, least - 1, margin=margin, delta=delta)
    # No test can do with less than show nothing with this chance at the margin.
    assert 1.0 <= least / (math.log(delta) / math.log(1 - margin)) <= 1.25


def test_more_errors_never_help() -> None:
    for second in (0, 5, 20):
        verdicts = [passes(first, second, 500, 0.03) for first in range(60)]
        assert verdicts == sorted(verdicts, reverse=True)
