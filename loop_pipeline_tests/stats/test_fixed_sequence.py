from typing import Any

import numpy as np
import pytest

from loop_pipeline.stats.binomial import smallest_certifiable
from loop_pipeline.stats.fixed_sequence import (
    START,
    all_or_threshold,
    anytime_threshold,
    bounded_threshold,
    first_share,
    threshold_curve,
    thresholds_to_try,
)

ALPHA = DELTA = 0.05
DRAWS = 600


def _violations(choose) -> float:
    """Share of draws of 500 rows whose threshold has a true error rate above ALPHA."""
    rng = np.random.default_rng(11)
    pool = rng.random(100_000)
    pool_good = rng.random(len(pool)) < 1 / (1 + np.exp(-(pool - 0.2) * 9))
    broken = 0
    for _ in range(DRAWS):
        rows = rng.integers(0, len(pool), 500)
        threshold = choose(pool[rows], pool_good[rows])
        broken += threshold is not None and (~pool_good[pool >= threshold]).mean() > ALPHA
    return broken / DRAWS


def _swept(score, good):
    ordered = np.argsort(-score)
    rate = np.cumsum(~good[ordered]) / np.arange(1, len(score) + 1)
    kept = np.flatnonzero(rate <= ALPHA)
    return score[ordered[kept[-1]]] if len(kept) else None


def test_promise_is_broken_at_most_as_often_as_allowed() -> None:
    slack = 3 * np.sqrt(DELTA * (1 - DELTA) / DRAWS)
    rate = _violations(lambda s, g: bounded_threshold(s, g, alpha=ALPHA, delta=DELTA))
    assert rate <= DELTA + slack


def test_all_or_a_threshold_keeps_the_promise_as_well() -> None:
    slack = 3 * np.sqrt(DELTA * (1 - DELTA) / DRAWS)
    rate = _violations(lambda s, g: all_or_threshold(s, g, alpha=ALPHA, delta=DELTA))
    assert rate <= DELTA + slack


def test_where_nearly_all_is_good_bad_luck_at_the_strict_end_costs_nothing() -> None:
    score, good = np.linspace(0, 1, 300), np.ones(300, bool)
    good[-6:] = False  # the surest are wrong: the walk fails at once
    assert bounded_threshold(score, good, alpha=ALPHA, delta=DELTA) is None
    assert all_or_threshold(score, good, alpha=ALPHA, delta=DELTA) == 0.0
    assert all_or_threshold(score[:50], good[:50], alpha=ALPHA, delta=DELTA) is None


def test_swept_threshold_breaks_it_in_the_same_harness() -> None:
    assert _violations(_swept) > 0.25


@pytest.mark.parametrize(("rows", "certified"), [(58, False), (59, True)])
def test_59_clean_rows_certify_and_58_do_not(rows: int, certified: bool) -> None:
    score, good = np.linspace(0, 1, rows), np.ones(rows, bool)
    found = bounded_threshold(score, good, alpha=ALPHA, delta=DELTA)
    assert (found is not None) is certified
    assert smallest_certifiable(ALPHA, DELTA) == 59


def test_equal_scores_and_bad_rows_promise_nothing() -> None:
    assert bounded_threshold(np.ones(200), np.zeros(200, bool), alpha=ALPHA, delta=DELTA) is None
    assert (
        bounded_threshold(np.full(200, np.nan), np.ones(200, bool), alpha=0.05, delta=0.05) is None
    )


def _a_sure_fifth(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    score = rng.random(rows)
    return score, rng.random(rows) < np.where(score >= 0.8, 0.99, 0.8)


def test_a_small_sure_part_is_served_where_other_rows_say_that_only_it_can_be() -> None:
    rng, draws, found, broken = np.random.default_rng(2), 100, 0, 0
    for _ in range(draws):
        other, (score, good) = _a_sure_fifth(rng, 500), _a_sure_fifth(rng, 1_500)
        assert bounded_threshold(score, good, alpha=ALPHA, delta=DELTA) is None
        start = first_share(*other, rows=1_500, alpha=ALPHA, delta=DELTA)
        at = bounded_threshold(score, good, alpha=ALPHA, delta=DELTA, start=start)
        found += at is not None
        # The surest fifth has 1% errors, and each further share 20%.
        if at is not None and at < 0.8:
            broken += (0.002 + 0.2 * (0.8 - at)) / (1 - at) > ALPHA
    assert found > 60
    assert broken / draws <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / draws)


def test_the_walk_starts_with_half_unless_other_rows_speak_against_it() -> None:
    score, good = np.linspace(0, 1, 200), np.ones(200, bool)
    about = {"rows": 500, "alpha": ALPHA, "delta": DELTA}
    assert first_share(score, good, **about) == START
    assert first_share(score, ~good, **about) == START  # nowhere any hope
    assert first_share(score[:10], good[:10], **about) == START
    assert first_share(np.zeros(0), np.zeros(0, bool), **about) == START


def test_running_evidence_needs_rows_and_thresholds() -> None:
    nothing: dict[str, Any] = {"alpha": ALPHA, "delta": DELTA}
    assert thresholds_to_try(np.zeros(0)) == []
    assert anytime_threshold(np.zeros(0), np.zeros(0, bool), [0.5], **nothing) is None
    assert anytime_threshold(np.ones(300), np.ones(300, bool), [], **nothing) is None
    score = np.linspace(0, 1, 300)
    grid = thresholds_to_try(score)
    assert grid == sorted(grid, reverse=True)
    assert anytime_threshold(score, np.ones(300, bool), grid, **nothing) == 0.0
    assert anytime_threshold(score, np.zeros(300, bool), grid, **nothing) is None


def test_curve_says_what_each_threshold_keeps() -> None:
    score, good = np.arange(100) / 100, np.arange(100) >= 20
    curve = threshold_curve(score, good, delta=DELTA)
    assert curve[-1][:3] == (0.0, 1.0, 0.8)
    assert all(lower < precision for _, _, precision, lower in curve)
    assert [kept for _, kept, *_ in curve] == sorted(kept for _, kept, *_ in curve)
