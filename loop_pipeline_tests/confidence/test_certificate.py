"""The promise against a known truth: it is kept, and the harness would notice if it were not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

from loop_pipeline.confidence.certificate import certify_group, promise_state, shared_delta
from loop_pipeline.stats.binomial import smallest_certifiable
from loop_pipeline.stats.risk_coverage import swept_threshold

ALPHA, DELTA, DRAWS = 0.05, 0.05, 600
LIMIT = DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / DRAWS)


def world(rng, n=20_000, informative=True):
    """A student agreeing on about 92%, whose confidence ranks its answers more or less well."""
    conf = np.round(rng.normal(size=n), 9)
    chance = 1 / (1 + np.exp(-(3.6 + 1.8 * conf))) if informative else np.full(n, 0.92)
    return conf, rng.random(n) < chance


def violations(threshold_of, *, informative=True, n=500, draws=DRAWS):
    rng = np.random.default_rng(7)
    conf, agree = world(rng, informative=informative)
    broken, coverage = 0, []
    for _ in range(draws):
        drawn = rng.integers(len(conf), size=n)
        threshold = threshold_of(conf[drawn], agree[drawn])
        accepted = conf >= threshold if threshold is not None else np.zeros(len(conf), bool)
        coverage.append(accepted.mean())
        broken += bool(accepted.any() and (~agree[accepted]).mean() > ALPHA)
    return broken / draws, float(np.mean(coverage))


def certified(conf, agree, delta=DELTA):
    return certify_group(conf, agree, ALPHA, delta).threshold


def test_the_promise_is_kept_and_covers_most_requests():
    rate, coverage = violations(certified)
    assert rate <= LIMIT
    assert coverage > 0.6


@pytest.mark.parametrize(
    "loose",
    [
        pytest.param(lambda c, a: swept_threshold(c, a, ALPHA), id="no certificate"),
        pytest.param(lambda c, a: certified(c, a, delta=0.5), id="delta loosened"),
    ],
)
def test_the_same_harness_catches_a_looser_bound(loose):
    rate, _ = violations(loose, draws=200)
    assert rate > 0.2


def test_a_random_score_loses_coverage_and_not_validity():
    rate, coverage = violations(certified, informative=False, draws=300)
    assert rate <= LIMIT
    assert coverage < 0.1


def any_of_five_broken(delta: float, draws: int = 120) -> float:
    """How often at least one of five groups of 400 rows breaks its promise."""
    rng = np.random.default_rng(3)
    conf, agree = world(rng)
    broken = 0
    for _ in range(draws):
        wrong = False
        for _group in range(5):
            drawn = rng.integers(len(conf), size=400)
            threshold = certified(conf[drawn], agree[drawn], delta)
            wrong |= threshold is not None and (~agree[conf >= threshold]).mean() > ALPHA
        broken += wrong
    return broken / draws


def test_any_of_five_groups_breaks_its_promise_in_two_draws_of_a_hundred_at_most() -> None:
    assert any_of_five_broken(shared_delta(DELTA, 5, 1)) <= 0.02


def test_the_same_harness_notices_groups_that_do_not_share_delta() -> None:
    assert any_of_five_broken(DELTA) > 0.05


def of_dependent_rows(unit: int, correlation: float, rows: int = 1_000, draws: int = 300) -> float:
    """How often the promise is broken when the rows of a unit (a conversation) err together."""
    rng = np.random.default_rng(7)
    pool = np.sort(rng.normal(size=200_000))[::-1]
    error = np.cumsum(1 - expit(3.6 + 1.8 * pool)) / np.arange(1, len(pool) + 1)
    broken = 0
    for _ in range(draws):
        conf = np.round(rng.normal(size=rows), 9)
        shared, own = np.repeat(rng.normal(size=rows // unit), unit), rng.normal(size=rows)
        luck = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        threshold = certified(conf, luck < norm.ppf(expit(3.6 + 1.8 * conf)))
        if threshold is not None:
            broken += error[max(np.searchsorted(-pool, -threshold) - 1, 0)] > ALPHA
    return broken / draws


def test_the_promise_is_kept_on_rows_of_which_each_is_a_unit_of_its_own() -> None:
    assert of_dependent_rows(1, 0.0) <= LIMIT


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="known defect: certify_group counts the rows of one conversation as independent, so "
    "conversations whose rows err together break the promise more often than delta says",
)
@pytest.mark.parametrize("correlation", [0.6, 0.9])
def test_the_promise_is_kept_on_conversations_of_ten_rows(correlation: float) -> None:
    assert of_dependent_rows(10, correlation) <= LIMIT


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="known defect: the certificate counts a request once however often it is asked, so the "
    "share of wrong answers among the requests served may be larger than promised",
)
def test_the_promise_is_kept_on_traffic_in_which_some_requests_are_asked_often() -> None:
    rng = np.random.default_rng(7)
    asked = 1 / np.arange(1, 5_001)
    asked /= asked.sum()
    broken = 0
    for _ in range(300):
        conf = np.round(rng.normal(size=len(asked)), 9)
        agree = rng.random(len(asked)) < expit(3.6 + 1.8 * conf)
        seen = pd.unique(rng.choice(len(asked), size=10_000, p=asked))[:500]
        threshold = certified(conf[seen], agree[seen])
        if threshold is not None:
            served = asked * (conf >= threshold)
            broken += (served * ~agree).sum() / served.sum() > ALPHA
    assert broken / 300 <= LIMIT


def test_delta_is_spent_once_over_all_groups_and_recalibrations():
    spent = sum(12 * shared_delta(DELTA, 12, t) for t in range(1, 5_000))
    assert DELTA * 0.999 < spent < DELTA
    assert smallest_certifiable(ALPHA, shared_delta(DELTA, 10, 10)) == 203


@pytest.mark.parametrize(("rows", "known"), [(59, True), (58, False)])
def test_59_clean_rows_prove_it_and_58_do_not(rows, known):
    certificate = certify_group(np.linspace(-1, 0, rows), np.ones(rows, bool), ALPHA, DELTA)
    assert (certificate.threshold is not None) is known
    if known:
        assert certificate.coverage == 1
        assert certificate.agreement_lower is not None
        assert certificate.agreement_lower >= 0.95
    else:
        assert certificate.reason == "has 58 calibration rows, needs at least 59: 1 missing"


@pytest.mark.parametrize(
    ("conf", "agree", "reason"),
    [
        (np.zeros(200), np.ones(200, bool), "all scores are equal"),
        (np.linspace(0, 1, 200), np.zeros(200, bool), "agreement is too low"),
        (np.full(200, np.nan), np.ones(200, bool), "has 0 calibration rows"),
        (np.empty(0), np.empty(0, bool), "has 0 calibration rows"),
    ],
)
def test_nothing_to_learn_from_gives_no_certificate_and_says_why(conf, agree, reason):
    certificate = certify_group(conf, agree, ALPHA, DELTA)
    assert certificate.threshold is None
    assert reason in certificate.reason
    assert (certificate.accepted, certificate.coverage) == (0, 0.0)


def test_unservable_answers_count_against_coverage_only():
    conf = np.append(np.linspace(-1, 0, 100), np.full(100, np.nan))
    certificate = certify_group(conf, np.append(np.ones(100), np.zeros(100)) > 0, ALPHA, DELTA)
    assert (certificate.coverage, certificate.errors, certificate.n) == (0.5, 0, 200)


def test_a_promise_is_kept_in_doubt_or_broken():
    promise = {"target": 0.95, "delta": 0.05, "groups": 1}
    assert promise_state(0, 0, **promise) == "nothing served"
    assert promise_state(95, 100, **promise) == "kept"
    assert promise_state(93, 100, **promise) == "in doubt"
    assert promise_state(85, 100, **promise) == "broken"
    # The same rows prove less if many groups are looked at.
    assert promise_state(90, 100, **promise) == "broken"
    assert promise_state(90, 100, **promise | {"groups": 20}) == "in doubt"


def test_kept_promises_are_rarely_called_broken():
    """Ten groups that keep 95% exactly: in at most 5% of worlds is any of them called broken."""
    rng = np.random.default_rng(3)
    good = rng.binomial(200, 0.95, size=(DRAWS, 10))
    called = [
        any(
            promise_state(int(k), 200, target=0.95, delta=DELTA, groups=10) == "broken"
            for k in world
        )
        for world in good
    ]
    assert np.mean(called) <= LIMIT
