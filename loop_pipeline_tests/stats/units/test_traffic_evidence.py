"""What rows say about traffic: exact where rows are independent, careful where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.stats.binomial import lower_bound, p_at_most
from loop_pipeline.stats.units.traffic_evidence import evidence

ALPHA, DELTA = 0.05, 0.05


def test_on_independent_rows_it_is_the_exact_binomial_test() -> None:
    wrong = np.arange(300) % 40 == 0
    found = evidence(wrong, alpha=ALPHA, delta=DELTA)
    for k in (59, 100, 300):
        assert found.p_values[k - 1] == pytest.approx(p_at_most(int(wrong[:k].sum()), k, ALPHA))
    right = 300 - int(wrong.sum())
    assert found.least_agreement(299, DELTA) == pytest.approx(lower_bound(right, 300, DELTA))


def test_fewer_units_than_a_test_takes_rows_prove_nothing_whatever_they_say() -> None:
    unit = np.repeat(np.arange(58), 10)
    found = evidence(np.zeros(580), unit, alpha=ALPHA, delta=DELTA)
    assert found.p_values[-1] == 1
    assert found.e_values[-1] == 0


@pytest.mark.parametrize("wrong", [False, True])
def test_a_request_asked_often_counts_with_all_that_it_is_asked(wrong: bool) -> None:
    error, times = np.zeros(201), np.ones(201)
    error[0], times[0] = wrong, 100
    found = evidence(error, times=times, alpha=ALPHA, delta=DELTA)
    # 15 of 300 may be wrong: with 100 wrong ones nothing is left for the others.
    assert found.limit[-1] == pytest.approx((15 - 100) / 200 if wrong else ALPHA)
    assert (found.p_values[-1] <= DELTA) is not wrong
    assert found.least_agreement(200, DELTA) < (0.7 if wrong else 1.0)


def test_requests_asked_often_and_rightly_never_excuse_the_others() -> None:
    error, times = np.zeros(401), np.ones(401)
    error[1:41], times[0] = 1, 5_000
    found = evidence(error, times=times, alpha=ALPHA, delta=DELTA)
    assert found.limit[-1] == ALPHA
    assert found.p_values[-1] > DELTA


def test_evidence_that_is_looked_at_after_every_row_is_seldom_wrong() -> None:
    """Errors come at just the rate that is spoken against: at most 5% of streams ever convince."""
    rng, draws = np.random.default_rng(0), 400
    wrong = rng.random((draws, 2_000)) < ALPHA
    ever = (evidence(wrong, alpha=ALPHA, delta=DELTA).e_values >= 1 / DELTA).any(axis=-1)
    assert ever.mean() <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / draws)
    better = rng.random((100, 2_000)) < ALPHA / 2
    assert (evidence(better, alpha=ALPHA, delta=DELTA).e_values[:, -1] >= 1 / DELTA).mean() > 0.9


def test_no_rows_are_no_evidence() -> None:
    assert evidence(np.zeros(0), alpha=ALPHA, delta=DELTA).p_values.shape == (0,)
