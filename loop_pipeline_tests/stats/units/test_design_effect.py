"""Rows that err together are worth fewer, and a lucky draw is not believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.stats.units.design_effect import effective, effective_prefixes

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=40
)


@pytest.mark.parametrize("errors", [0, 1, 17, 200])
def test_rows_that_are_units_of_their_own_count_as_they_are(errors: int) -> None:
    found = effective(np.arange(200) < errors, np.arange(200))
    assert found.rows == pytest.approx(200)
    assert found.errors == pytest.approx(errors)
    assert found.units == pytest.approx(200)


def test_units_that_are_right_or_wrong_as_a_whole_count_once() -> None:
    unit = np.repeat(np.arange(100), 5)
    found = effective(unit % 20 == 0, unit)
    assert found.rows == pytest.approx(100)
    assert found.errors == pytest.approx(5)


def test_without_an_error_nothing_says_that_rows_of_a_unit_are_independent() -> None:
    found = effective(np.zeros(500), np.repeat(np.arange(100), 5))
    assert found.rows == pytest.approx(100)


def test_units_whose_rows_err_independently_cost_little() -> None:
    rng = np.random.default_rng(0)
    found = effective(rng.random(10_000) < 0.1, np.repeat(np.arange(2_000), 5))
    assert 9_000 < found.rows <= 10_000


def test_one_giant_unit_is_worth_next_to_nothing() -> None:
    unit = np.where(np.arange(1_000) < 930, 0, np.arange(1_000))
    assert effective(np.zeros(1_000), unit).units < 2


def test_a_request_that_is_asked_often_weighs_as_a_unit_of_so_many_rows() -> None:
    error, unit = np.array([True, False, False]), np.arange(3)
    times = np.array([4, 1, 2])
    same = effective(np.repeat(error, times), np.repeat(unit, times))
    assert effective(error, unit, times) == pytest.approx(same)


@given(ROWS)
def test_every_prefix_is_worth_what_it_is_worth_alone(rows: list[tuple[bool, int, int]]) -> None:
    error, unit, times = (np.array(part) for part in zip(*rows, strict=True))
    found = effective_prefixes(error, unit, times)
    for k in range(1, len(rows) + 1):
        alone = effective(error[:k], unit[:k], times[:k])
        for part, one in zip(found, alone, strict=True):
            assert part[k - 1] == pytest.approx(float(one), rel=1e-9, abs=1e-9)


@given(ROWS)
def test_rows_are_never_worth_more_than_they_weigh_nor_less_than_none(
    rows: list[tuple[bool, int, int]],
) -> None:
    error, unit, times = (np.array(part) for part in zip(*rows, strict=True))
    found = effective(error, unit, times)
    assert 0 < found.rows <= times.sum() + 1e-9
    assert 0 <= found.errors <= found.rows + 1e-9
    assert 0 < found.units <= len(np.unique(unit)) + 1e-9
    assert found.design >= 1


def test_samples_side_by_side_are_those_made_one_by_one() -> None:
    rng = np.random.default_rng(1)
    error, unit = rng.random((4, 60)) < 0.2, rng.integers(0, 12, (4, 60))
    both = effective_prefixes(error, unit)
    for i in range(4):
        one = effective_prefixes(error[i], unit[i])
        assert np.allclose(both.rows[i], one.rows)
        assert np.allclose(both.errors[i], one.errors)
