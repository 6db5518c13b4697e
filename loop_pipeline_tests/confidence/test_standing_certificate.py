"""What was certified once stays, new rows only add to it, and the promise is kept for good."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from loop_pipeline.confidence.certificate import Certificate, certify_group, shared_delta
from loop_pipeline.confidence.standing_certificate import (
    first_certificate,
    later_certificate,
    needed,
)

ALPHA, DELTA, GROUPS = 0.05, 0.05, 6
SHARE = shared_delta(DELTA, GROUPS, 1)


def rows(
    rng: np.random.Generator, n: int, unit: int = 1, correlation: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, agreement and unit; 90% agree, and 79% could be served."""
    score, code = rng.random(n), np.arange(n) // unit
    together = rng.normal(size=code[-1] + 1)[code]
    luck = np.sqrt(correlation) * together + np.sqrt(1 - correlation) * rng.normal(size=n)
    return score, luck >= norm.ppf(0.4 * (1 - score) ** 3), code


def risk(threshold: float) -> float:
    return 0.1 * (1 - min(max(threshold, 0.0), 1.0)) ** 3


def grown(
    score: np.ndarray, agree: np.ndarray, unit: np.ndarray, sizes: list[int], share: float = SHARE
) -> list[Certificate]:
    """Certificates of one group while its rows grow."""
    found: list[Certificate] = []
    for n in sizes:
        now = {"alpha": ALPHA, "unit": unit[:n]}
        if not found:
            found.append(first_certificate(score[:n], agree[:n], share=share, **now))
        else:
            found.append(later_certificate(found[-1], score[:n], agree[:n], **now))
    return found


def test_coverage_never_falls_while_rows_come_and_testing_anew_loses_it() -> None:
    rng, anew, kept = np.random.default_rng(1), [], []
    sizes = [800 + 20 * week for week in (0, 4, 9, 25, 51)]
    for _ in range(20):
        score, agree, unit = rows(rng, sizes[-1])
        found = [c.threshold for c in grown(score, agree, unit, sizes)]
        served = [0.0 if t is None else 1 - t for t in found]
        assert served == sorted(served)
        kept.append(served)
        tested = [
            certify_group(score[:n], agree[:n], ALPHA, shared_delta(DELTA, GROUPS, week)).threshold
            for n, week in zip(sizes, (1, 5, 10, 26, 52), strict=True)
        ]
        anew.append([0.0 if t is None else 1 - t for t in tested])
    weeks, before = np.mean(kept, axis=0), np.mean(anew, axis=0)
    assert weeks[2] >= weeks[0]
    assert before[2] < before[0] - 0.08
    assert weeks[-1] > before[-1]


@pytest.mark.parametrize(("unit", "correlation"), [(1, 0.0), (2, 0.9), (5, 0.6), (10, 0.9)])
def test_a_group_that_is_looked_at_every_week_keeps_its_promise_for_good(
    unit: int, correlation: float
) -> None:
    rng, broken, draws = np.random.default_rng(2), 0, 60
    for _ in range(draws):
        score, agree, code = rows(rng, 1_600, unit, correlation)
        sizes = list(range(400, 1_601, 100))
        found = grown(score, agree, code, sizes, share=DELTA)
        broken += any(c.threshold is not None and risk(c.threshold) > ALPHA for c in found)
    assert broken / draws <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / draws)


def test_the_same_rows_again_give_the_same_certificate() -> None:
    score, agree, unit = rows(np.random.default_rng(3), 900)
    first, again = grown(score, agree, unit, [900, 900])
    assert again == first


def test_what_new_rows_speak_against_is_taken_back_and_says_so() -> None:
    score, agree, unit = rows(np.random.default_rng(4), 800)
    first = grown(score, agree, unit, [800])[0]
    assert first.threshold is not None
    rng = np.random.default_rng(5)
    more = rng.random(800)
    later = later_certificate(
        first, np.append(score, more), np.append(agree, rng.random(800) > 0.3), alpha=ALPHA
    )
    assert later.threshold is None
    assert later.reason.startswith("taken back: 0.")
    assert later.reason.endswith("0.950 were promised")
    assert (later.accepted, later.coverage) == (0, 0.0)


def test_a_few_unlucky_rows_take_nothing_back() -> None:
    score, agree, unit = rows(np.random.default_rng(4), 820)
    first = grown(score, agree, unit, [800])[0]
    agree[800:810] = False
    later = later_certificate(first, score, agree, alpha=ALPHA)
    assert later.threshold == first.threshold


def test_too_few_rows_spend_nothing_so_the_first_test_is_still_to_come() -> None:
    need = needed(ALPHA, SHARE)
    score = np.linspace(0, 1, need)
    few = first_certificate(score[1:], np.ones(need - 1, bool), alpha=ALPHA, share=SHARE)
    assert (few.share, few.grid) == (0.0, [])
    assert "1 missing" in few.reason
    enough = first_certificate(score, np.ones(need, bool), alpha=ALPHA, share=SHARE)
    assert enough.threshold is not None
    assert enough.share == SHARE


def test_a_group_that_failed_its_first_test_can_still_earn_its_certificate() -> None:
    rng = np.random.default_rng(8)
    score, agree, unit = rows(rng, 4_000)
    found = grown(score, agree, unit, [200, 4_000])
    assert found[0].threshold is None
    assert found[1].threshold is not None
    assert found[1].reason == "certified"
    assert found[1].agreement_lower is not None
    assert found[1].agreement_lower > 0.94
