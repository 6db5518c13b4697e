"""The promise against a known truth: it is kept, and the harness would notice if it were not."""

from __future__ import annotations

import numpy as np
import pytest
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


def wrong(score: np.ndarray) -> np.ndarray:
    """How often an answer with this score, uniform in 0 to 1, is wrong: 10% on average."""
    return 0.4 * (1 - score) ** 3


def risk(threshold: float) -> float:
    """True share of wrong answers among those that score at least so much."""
    return 0.1 * (1 - min(max(threshold, 0.0), 1.0)) ** 3


def in_units(
    rng: np.random.Generator, rows: int, unit: int, correlation: float, alike: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, agreement and unit of rows whose errors (and scores) are alike within a unit."""
    code = np.arange(rows) // unit

    def latent(share: float) -> np.ndarray:
        together = rng.normal(size=code[-1] + 1)[code]
        return np.sqrt(share) * together + np.sqrt(1 - share) * rng.normal(size=rows)

    score = norm.cdf(latent(alike))
    return score, latent(correlation) >= norm.ppf(wrong(score)), code


def of_dependent_rows(
    unit: int,
    correlation: float,
    *,
    rows: int = 1_000,
    groups: int = 1,
    alike: float = 0.0,
    counted: bool = True,
    draws: int = 300,
) -> tuple[float, float]:
    """How often a promise of any group is broken, and what is covered on average."""
    rng = np.random.default_rng(7)
    broken, covered = 0, 0.0
    for _ in range(draws):
        bad = False
        for _group in range(groups):
            score, agree, code = in_units(rng, rows, unit, correlation, alike)
            known = code if counted else None
            found = certify_group(score, agree, ALPHA, DELTA / groups, unit=known).threshold
            if found is not None:
                bad |= risk(found) > ALPHA
                covered += (1 - found) / draws / groups
        broken += bad
    return broken / draws, covered


def test_rows_that_are_units_of_their_own_lose_nothing_by_being_counted_as_units() -> None:
    found = of_dependent_rows(1, 0.0)
    assert found == of_dependent_rows(1, 0.0, counted=False)
    assert found[0] <= LIMIT
    assert found[1] > 0.65


@pytest.mark.parametrize(
    ("unit", "correlation", "alike"),
    [(5, 0.6, 0), (5, 0.9, 0), (10, 0.6, 0), (10, 0.9, 0), (10, 0.9, 0.8), (5, 0.6, 0.5)],
)
def test_the_promise_is_kept_on_rows_that_err_together(
    unit: int, correlation: float, alike: float
) -> None:
    limit = DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / 300)
    assert of_dependent_rows(unit, correlation, alike=alike)[0] <= limit


def test_conversations_of_five_still_get_most_of_the_coverage() -> None:
    assert of_dependent_rows(5, 0.6, draws=100)[1] > 0.6


@pytest.mark.parametrize(
    ("unit", "correlation"), [(2, 0.9), (3, 0.9), (5, 0.6), (5, 0.9), (10, 0.6), (10, 0.9)]
)
def test_no_promise_of_six_small_groups_is_broken_by_rows_that_err_together(
    unit: int, correlation: float
) -> None:
    draws = 90
    rate, _ = of_dependent_rows(unit, correlation, rows=400, groups=6, draws=draws)
    assert rate <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / draws)


@pytest.mark.parametrize(("unit", "correlation"), [(10, 0.6), (5, 0.9)])
def test_the_same_harness_notices_rows_that_count_as_independent(
    unit: int, correlation: float
) -> None:
    rate, _ = of_dependent_rows(unit, correlation, rows=400, groups=6, counted=False, draws=60)
    assert rate > 0.1


def of_repeated_requests(
    exponent: float, *, whole: bool, weighed: bool = True, draws: int = 300
) -> float:
    """How often the promise is broken in traffic whose repeats follow Zipf's law.

    Rows are 1,000 requests as they were asked, or (``whole``) 15% of the distinct requests, each
    with all its repeats, as a split holds them out.
    """
    rng = np.random.default_rng(7)
    size = 6_667 if whole else 5_000
    asked = np.arange(1.0, size + 1) ** -exponent
    asked /= asked.sum()
    broken = 0
    for _ in range(draws):
        score = rng.random(size)
        agree = rng.random(size) >= wrong(score)
        times = rng.multinomial(3 * size if whole else 1_000, asked)
        seen = np.flatnonzero(times * (rng.random(size) < 0.15) if whole else times)
        known = times[seen] if weighed else None
        found = certify_group(score[seen], agree[seen], ALPHA, DELTA, times=known).threshold
        if found is not None:
            served = asked * (score >= found)
            broken += (served * ~agree).sum() / served.sum() > ALPHA
    return broken / draws


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.2])
def test_the_promise_is_about_traffic_in_which_some_requests_are_asked_often(
    exponent: float, whole: bool
) -> None:
    limit = DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / 300)
    assert of_repeated_requests(exponent, whole=whole) <= limit


def test_the_same_harness_notices_requests_that_count_once_however_often_they_are_asked() -> None:
    assert of_repeated_requests(1.0, whole=True, weighed=False) > 0.09


def test_a_request_asked_often_and_answered_wrong_is_not_outvoted_by_rare_ones() -> None:
    score, agree, times = np.linspace(0, 1, 401), np.ones(401, bool), np.ones(401)
    times[-1] = 60  # the surest of all
    assert certify_group(score, agree, ALPHA, DELTA, times=times).threshold is not None
    agree[-1] = False
    found = certify_group(score, agree, ALPHA, DELTA, times=times)
    assert found.threshold is None
    assert certify_group(score, agree, ALPHA, DELTA).threshold is not None


def test_one_giant_conversation_promises_nothing_and_is_named() -> None:
    unit = np.array(["conversation c17"] * 372 + [f"request p{i}" for i in range(28)])
    found = certify_group(np.linspace(0, 1, 400), np.ones(400, bool), ALPHA, DELTA, unit=unit)
    assert found.threshold is None
    assert found.reason == (
        "its 400 calibration rows are worth 1 independent ones, needs at least 59: "
        "conversation c17 is 93% of them"
    )


def test_answers_that_are_never_served_are_counted_where_rows_are_missing() -> None:
    found = certify_group(np.full(920, np.nan), np.ones(920, bool), ALPHA, DELTA)
    assert found.reason == (
        "has 0 calibration rows, needs at least 59: 59 missing; 920 more have answers that are "
        "never served"
    )


def test_counts_are_of_requests_as_they_were_asked_and_say_what_they_are_worth() -> None:
    unit = np.repeat(np.arange(200), 2)
    found = certify_group(
        np.linspace(0, 1, 400), np.ones(400, bool), ALPHA, DELTA, unit=unit, times=np.full(400, 3)
    )
    assert (found.n, found.accepted, found.errors) == (1_200, 1_200, 0)
    assert found.worth == pytest.approx(200, abs=1)
    assert found.agreement_lower == pytest.approx(DELTA ** (1 / 200), abs=1e-3)


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
