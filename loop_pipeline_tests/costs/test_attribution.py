from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.costs.attribution import attribute, student_usd_per_request

FRONTIER = 0.0150  # 1,500 tokens in and 300 out at 5 / 25 USD a million


@pytest.mark.parametrize(
    ("gpu", "per_second", "ratio"),
    [
        (2.69, 0.1, 0.67),
        (2.69, 0.5, 0.135),
        (2.69, 1, 0.067),
        (2.69, 2, 0.034),
        (2.69, 5, 0.013),
        (2.69, 20, 0.0034),
        (1.40, 0.1, 0.35),
        (1.40, 0.5, 0.070),
        (1.40, 1, 0.035),
        (1.40, 2, 0.0175),
        (1.40, 5, 0.0070),
    ],
)
def test_worked_table(gpu: float, per_second: float, ratio: float) -> None:
    assert student_usd_per_request(gpu, per_second * 3600) / FRONTIER == pytest.approx(ratio, 0.04)


def numbers(ratio: float, coverage: float = 0.8, **overrides: Any) -> Any:
    """A thousand requests whose student call costs ``ratio`` of a frontier call."""
    given_ = {
        "requests": 1000,
        "coverage": coverage,
        "requests_per_hour": 100.0,
        "server_hourly_usd": ratio * FRONTIER * 100,
        "frontier_usd": 1000 * FRONTIER,
        "loaded_factor": 1.0,
    }
    return attribute(**(given_ | overrides))


def test_a_two_percent_student_is_not_a_two_percent_workload() -> None:
    got = numbers(0.02)
    assert got.covered_ratio == pytest.approx(0.02)
    assert got.blended_ratio == pytest.approx(0.22)
    assert got.loaded_ratio == pytest.approx(0.236)
    gated = numbers(0.02, student_calls=800)
    assert gated.blended_ratio == pytest.approx(0.216)


def test_training_and_review_are_only_in_the_loaded_ratio() -> None:
    plain, full = numbers(0.02), numbers(0.02, training_usd=1.5, review_usd=0.75)
    assert full.blended_ratio == plain.blended_ratio
    assert full.loaded_ratio - plain.loaded_ratio == pytest.approx(0.15)


def test_covered_requests_may_be_the_cheap_ones() -> None:
    got = numbers(0.02, covered_frontier_usd=6.0)  # 80% of the requests, 40% of the bill
    assert got.covered_ratio == pytest.approx(800 * 0.02 * FRONTIER / 6.0)
    assert got.blended_ratio == pytest.approx((1000 * 0.02 * FRONTIER + 9.0) / 15.0)


@pytest.mark.parametrize(("gpu", "expected"), [(2.69, 242), (1.40, 126)])
def test_break_even(gpu: float, expected: float) -> None:
    whole = attribute(
        requests=1000,
        coverage=1.0,
        requests_per_hour=3600,
        server_hourly_usd=gpu,
        frontier_usd=1000 * FRONTIER,
    )
    assert whole.break_even_requests_per_hour == pytest.approx(expected, abs=0.6)
    assert whole.break_even_requests_per_hour is not None
    at_it = attribute(
        requests=1000,
        coverage=0.6,
        requests_per_hour=whole.break_even_requests_per_hour / 0.6,
        server_hourly_usd=gpu,
        frontier_usd=1000 * FRONTIER,
    )
    assert at_it.blended_ratio == pytest.approx(1.0)


@given(
    gpu=st.floats(0.1, 20),
    load=st.floats(1, 1e6),
    coverage=st.floats(0, 1),
    training=st.floats(0, 1000),
)
def test_parts_sum_to_the_bill_and_half_the_traffic_doubles_the_unit_cost(
    gpu: float, load: float, coverage: float, training: float
) -> None:
    def at(requests_per_hour: float) -> Any:
        return attribute(
            requests=5000,
            coverage=coverage,
            requests_per_hour=requests_per_hour,
            server_hourly_usd=gpu,
            frontier_usd=75.0,
            training_usd=training,
        )

    full, half = at(load), at(load / 2)
    assert half.student_usd_per_request == pytest.approx(2 * full.student_usd_per_request)
    rented = 5000 / load * gpu * full.loaded_factor
    frontier = 75 * (1 - coverage) + 75 * coverage * 0.02
    assert full.bill_usd == pytest.approx(rented + frontier + training)
    assert full.bill_usd == pytest.approx(full.loaded_ratio * 75)


def test_nothing_covered_has_no_covered_ratio() -> None:
    got = numbers(0.02, coverage=0.0, student_calls=0)
    assert got.covered_ratio is None
    assert got.break_even_requests_per_hour is None
    assert got.blended_ratio == pytest.approx(1.0)


def test_utilisation_needs_a_measured_capacity() -> None:
    assert numbers(0.02).utilisation is None
    assert numbers(0.02, capacity_requests_per_hour=400.0).utilisation == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coverage": None}, "without coverage"),
        ({"coverage": 1.2}, "without coverage"),
        ({"coverage": float("nan")}, "without coverage"),
        ({"requests_per_hour": None}, "without the load"),
        ({"requests_per_hour": 0.0}, "without rent and load"),
        ({"requests": 0}, "no cost ratio of 0 requests"),
        ({"frontier_usd": 0.0}, "billed 0.0 USD"),
        ({"student_calls": 100}, "called 100x"),
        ({"covered_frontier_usd": 99.0}, "covered requests billed"),
    ],
)
def test_no_ratio_without_what_it_rests_on(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbers(0.02, **wrong)
