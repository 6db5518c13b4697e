import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from loop_pipeline.confidence.certificate import certify_group, shared_delta
from loop_pipeline.confidence.coverage import accepted_counts, compare_coverage
from loop_pipeline.confidence.standing_certificate import EXACT


@pytest.mark.parametrize("n", [40, 59, 104, 300, 500])
@pytest.mark.parametrize("easy", [2.5, 4.0, 6.0])
def test_many_certificates_at_once_are_those_made_one_by_one(n: int, easy: float) -> None:
    rng = np.random.default_rng(n)
    score = rng.normal(size=(8, n))
    right = rng.random((8, n)) < expit(easy + 2 * score)
    score[rng.random((8, n)) < 0.02] = -np.inf  # never served
    wanted = [
        certify_group(np.where(np.isfinite(s), s, np.nan), r, 0.05, 0.03).accepted
        for s, r in zip(score, right, strict=True)
    ]
    assert accepted_counts(score, right, alpha=0.05, delta=0.03).tolist() == wanted


@pytest.mark.parametrize("rows_a_unit", [2, 5])
def test_so_are_those_of_dependent_and_repeated_rows(rows_a_unit: int) -> None:
    rng = np.random.default_rng(rows_a_unit)
    score = rng.normal(size=(6, 600))
    right = rng.random((6, 600)) < expit(4 + 2 * score)
    score[rng.random((6, 600)) < 0.02] = -np.inf  # never served
    unit, times = (
        np.arange(600) // rows_a_unit,
        rng.choice([1.0, 2.0, 40.0], 600, p=[0.9, 0.09, 0.01]),
    )
    rows = {"unit": unit, "times": times}
    wanted = [
        certify_group(np.where(np.isfinite(s), s, np.nan), r, 0.05, 0.03, **rows).accepted
        for s, r in zip(score, right, strict=True)
    ]
    assert accepted_counts(score, right, alpha=0.05, delta=0.03, **rows).tolist() == wanted


def student(
    rng: np.random.Generator, hard: np.ndarray, easy: float, *, groups: int = 1
) -> pd.DataFrame:
    """Answers to calibration requests, right the more often the easier, and unsure of hard ones."""
    own = 0.8 * hard + 0.6 * rng.normal(size=len(hard))
    n = len(hard)
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in range(n)],
            "split": "calibration",
            "group_id": [f"g{i % groups}" for i in range(n)],
            "agrees": rng.random(n) < expit(easy + 2 * own),
            "output": "x",
            "finish_reason": "stop",
            "tokens_out": 2,
        }
    ).assign(**dict.fromkeys(["logprob_sum", "logprob_min", "logprob_p10", "logprob_mean"], own))


def test_coverage_is_that_of_the_certificates() -> None:
    rng = np.random.default_rng(0)
    rows = student(rng, rng.normal(size=900), 5.0, groups=3)
    rows.loc[rows.index[:9], "output"] = ""  # an empty answer is never served
    small = rows.assign(prompt_id="s" + rows["prompt_id"], group_id="small").head(50)
    lost = rows.assign(prompt_id="u" + rows["prompt_id"], group_id="unassigned").head(100)
    found = compare_coverage(
        pd.concat([rows, small, lost]), None, target_agreement=0.95, delta=0.05
    )
    accepted = 0
    for _, own in rows.groupby("group_id"):
        score = own["logprob_sum"].where(own["output"] != "").to_numpy(float)
        right = own["agrees"].to_numpy(bool)
        accepted += certify_group(score, right, 0.05, shared_delta(0.05, 3, 1) * EXACT).accepted
    assert accepted > 0
    assert found.candidate == pytest.approx(accepted / 1050)
    assert (found.rival, found.p_lower, found.n) == (None, None, 1050)


def test_too_few_rows_are_no_coverage() -> None:
    rng = np.random.default_rng(0)
    rows = student(rng, rng.normal(size=58), 9.0)
    found = compare_coverage(rows, rows, target_agreement=0.95, delta=0.05)
    assert found.candidate is None
    assert found.note.startswith("58 calibration answers; the largest group has 58")
    none = compare_coverage(rows.assign(split="gold"), None, target_agreement=0.95, delta=0.05)
    assert (none.candidate, none.n) == (None, 0)


def test_only_requests_both_answered_are_compared() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=500)
    first, second = student(rng, hard, 5.0), student(rng, hard, 5.0)
    found = compare_coverage(first, second.iloc[100:], target_agreement=0.95, delta=0.05)
    assert found.n == 400
    same = compare_coverage(first, first, target_agreement=0.95, delta=0.05)
    assert (same.candidate, same.p_lower) == (same.rival, 1.0)


def test_equal_students_are_seldom_told_apart_and_worse_ones_often() -> None:
    """The level of the test is kept, and the coverage alone would not keep it."""
    rng = np.random.default_rng(5)
    trials, refused, lower, caught = 50, 0, 0, 0
    for trial in range(trials):
        hard = rng.normal(size=500)
        pair = [student(rng, hard, 4.6) for _ in range(2)]
        found = compare_coverage(*pair, target_agreement=0.95, delta=0.05, swaps=99, seed=trial)
        assert found.candidate is not None and found.rival is not None
        assert found.p_lower is not None
        lower += found.candidate - found.rival < -0.02
        refused += found.p_lower <= 0.05
        bad = compare_coverage(
            student(rng, hard, 3.0),
            pair[1],
            target_agreement=0.95,
            delta=0.05,
            swaps=99,
            seed=trial,
        )
        caught += bad.p_lower is not None and bad.p_lower <= 0.05
    assert refused <= trials * 0.05 + 3 * (trials * 0.05 * 0.95) ** 0.5
    assert lower > refused + 5
    assert caught >= 0.8 * trials
