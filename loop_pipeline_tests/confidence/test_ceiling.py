"""How often the frontier agrees with itself: counted by units, worded, and set against a target."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.confidence.ceiling import ceiling_of, ceiling_words, with_ceiling
from loop_pipeline.confidence.certificate import certify_group
from loop_pipeline.confidence.coverage import most_certifiable

DRAWS = 400


def own(agreed: int, asked: int, *, drawn: bool = True):
    same = [True] * agreed + [False] * (asked - agreed)
    return ceiling_of(same, [str(i) for i in range(asked)], drawn=drawn)


@pytest.mark.parametrize("per_unit", [1, 5, 10])
def test_the_interval_holds_the_truth_though_whole_units_are_unsure(per_unit: int) -> None:
    rng = np.random.default_rng(per_unit)
    held = 0
    for _ in range(DRAWS):
        # Of each unit either all answers are sure, or all are a coin: 0.9 agree over all.
        unsure = np.repeat(rng.random(300 // per_unit) < 0.2, per_unit)
        same = ~unsure | (rng.random(300) < 0.5)
        units = np.repeat(np.arange(300 // per_unit), per_unit).astype(str)
        found = ceiling_of(same.tolist(), units.tolist(), drawn=True)
        assert found is not None
        held += found.low <= 0.9 <= found.high
    assert held / DRAWS >= 0.95 - 3 * (0.95 * 0.05 / DRAWS) ** 0.5


def test_rows_that_are_all_of_one_unit_or_all_alike_claim_no_more_than_their_units() -> None:
    one = ceiling_of([True] * 200, ["c"] * 200, drawn=True)
    ten = ceiling_of([True] * 200, [str(i % 10) for i in range(200)], drawn=True)
    assert one is not None
    assert one.low < 0.03
    assert ten is not None
    assert 0.6 < ten.low < 0.75
    assert ceiling_of([], [], drawn=True) is None


def test_what_was_not_measured_is_said_and_repeats_are_called_the_easier_ones() -> None:
    assert ceiling_words(None).endswith("not measured")
    assert "90.0% [" in ceiling_words(own(180, 200))
    assert "of 200 requests asked twice" in ceiling_words(own(180, 200))
    assert "the easier ones" in ceiling_words(own(180, 200, drawn=False))


def test_a_student_is_not_blamed_for_what_the_frontier_does_not_reach_either() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    says_mode = rng.random((2, n)) < np.sqrt(0.9)
    agrees = (rng.random(n) < 0.97) & says_mode[0]
    found = certify_group(rng.random(n), agrees, 0.05, 0.05)
    assert found.threshold is None
    assert found.reason.startswith("agreement is too low")
    measured = own(int((says_mode[0] & says_mode[1]).sum()), n)
    said = with_ceiling(found.reason, measured, 0.95)
    assert "too low" not in said
    assert said.startswith("the target of 95.0% is above the ceiling")
    assert "surest rows agree" in said


@pytest.mark.parametrize(
    ("reason", "agreed", "begins", "holds"),
    [
        ("agreement is too low: 0.9", 200, "agreement is too low", ""),
        ("agreement is not proved: 0.94", 186, "the target of 95.0% may be above", "student 0.94"),
        ("has 20 calibration rows", 150, "has 20 calibration rows; and the target", "is above"),
        ("agreement is too low: 0.9", None, "agreement is too low", ""),
    ],
)
def test_a_reason_names_the_ceiling_only_where_the_target_is_above_it(
    reason: str, agreed: int | None, begins: str, holds: str
) -> None:
    said = with_ceiling(reason, own(agreed, 200) if agreed else None, 0.95)
    assert said.startswith(begins)
    assert holds in said


def test_no_method_certifies_more_than_the_bound_whatever_it_serves() -> None:
    assert most_certifiable(0.153, 0.05) == pytest.approx(0.892, abs=5e-4)
    assert most_certifiable(0.03, 0.05) == 1.0
    rng = np.random.default_rng(1)
    right = rng.random(1000) > 0.153
    e = 1 - right.mean()
    # The best there is: all that is right, and wrong ones up to what is allowed.
    allowed = int(0.05 / 0.95 * right.sum())
    assert (right.sum() + allowed) / 1000 <= most_certifiable(e, 0.05) + 1e-3
