"""The doctor's verdict on routers whose worth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loop_pipeline.confidence.certificate import Certificate
from loop_pipeline.doctor.controls import against, bootstrap, by_length, hull
from loop_pipeline.doctor.curves import apgr_draws, curve, ranked
from loop_pipeline.doctor.diagnosis import LENGTH, MIX, ORACLE, POLICY, RANDOM, SINGLE, Diagnosis
from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.outcome_table import CertifiedGroup, Outcomes

N, CHEAP, BIG = 4_000, 0, 1


def certificate(agreement: float = 0.96) -> Certificate:
    return Certificate(
        threshold=0.0,
        n=500,
        accepted=400,
        errors=12,
        coverage=0.8,
        agreement=0.97,
        agreement_lower=agreement,
        reason="certified",
    )


def made(seed: int = 0, *, n: int = N, wrong: float = 0.12, **changes: Any) -> Outcomes:
    """A cheap model that is wrong in some requests, and a score that mostly knows in which."""
    rng = np.random.default_rng(seed)
    good = rng.random(n) > wrong
    score = np.where(good, 1.0, -1.0) + rng.normal(size=n)
    chosen = np.where(score > 0, CHEAP, BIG)
    cost = np.column_stack([np.full(n, 0.001), np.full(n, 0.01)])
    plain: dict[str, Any] = {
        "source": "test",
        "models": ["cheap", "big"],
        "reference": BIG,
        "weak": CHEAP,
        "quality": np.column_stack([good, np.ones(n)]).astype(float),
        "cost": cost,
        "length": rng.integers(20, 400, n).astype(float),
        "group": np.where(rng.random(n) < 0.7, "a", "b").astype(object),
        "score": score,
        "chosen": chosen,
        "paid": cost[np.arange(n), chosen],
        "best_single": np.full(n, BIG),
        "certified": [
            CertifiedGroup("a", CHEAP, certificate(), "certified"),
            CertifiedGroup("b", CHEAP, certificate(), "certified"),
        ],
        "target": 0.95,
        "delta": 0.05,
        "after_answer": False,
        "rows": {"calibration": 1_000, "scored": n},
    }
    return Outcomes(**(plain | changes))


def routed(outcomes: Outcomes, cheap: np.ndarray, **changes: Any) -> Outcomes:
    """The same requests with another router."""
    chosen = np.where(cheap, CHEAP, BIG)
    paid = outcomes.cost[np.arange(len(chosen)), chosen]
    return replace(outcomes, chosen=chosen, paid=paid, **changes)


def examine(outcomes: Outcomes) -> Diagnosis:
    return diagnose(outcomes, resamples=300)


def test_a_router_with_skill_earns_its_keep():
    report = examine(made())
    assert report.earns
    assert report.verdict.startswith("It earns its keep: of the")
    policy, coin = report.router(POLICY).agreement, report.router(RANDOM).agreement
    assert policy is not None
    assert coin is not None
    assert policy.value > 0.97
    assert coin.value == pytest.approx(0.88, abs=0.01)
    for figure in ("at the same share random 8", "prompt length 8", "it costs"):
        assert figure in report.verdict
    assert {group.verdict for group in report.groups} == {"kept"}
    mix = report.beside(MIX, "quality")
    assert mix is not None
    assert mix.low > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_coin_does_not(seed):
    outcomes = made(seed, wrong=0.03)
    cheap = np.random.default_rng(seed + 100).random(N) < 0.6
    report = examine(routed(outcomes, cheap))
    assert report.earns is False
    assert report.verdict.startswith("It does not: a coin does ")
    gap = report.beside(RANDOM, "agreement")
    assert gap is not None
    assert gap.low < 0.002
    assert abs(gap.value) < 0.01


def test_coins_are_seldom_taken_for_routers():
    """At 95% intervals a coin passes for better in one of forty cases."""
    passed = 0
    for seed in range(200):
        outcomes = made(seed, n=800, wrong=0.06)
        cheap = np.random.default_rng(seed + 1_000).random(800) < 0.6
        found = against(routed(outcomes, cheap), RANDOM, None, resamples=200, seed=seed)
        passed += found[0].difference.low > 0
    assert passed / 200 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 200)


def test_length_alone_ties_a_router_that_knows_only_length():
    rng = np.random.default_rng(3)
    length = rng.permutation(N).astype(float)
    good = rng.random(N) > 0.12 * length / N
    outcomes = made(length=length, quality=np.column_stack([good, np.ones(N)]).astype(float))
    report = examine(routed(outcomes, length < 0.5 * N))
    coin, tie = report.beside(RANDOM, "agreement"), report.beside(LENGTH, "agreement")
    assert coin is not None
    assert tie is not None
    assert coin.low > 0, "it does beat a coin"
    assert (tie.value, tie.low, tie.high) == (0, 0, 0)
    assert report.earns is False
    assert report.verdict.startswith("It does not: prompt length alone does as well")


def test_nothing_is_routed_away_from_a_model_that_is_cheaper_and_better():
    rng = np.random.default_rng(5)
    quality = np.column_stack([rng.random(N) < 0.5, rng.random(N) < 0.7]).astype(float)
    cost = np.column_stack([np.full(N, 0.02), np.full(N, 0.01)])
    still = np.full(N, BIG)
    outcomes = made(
        quality=quality, cost=cost, weak=BIG, chosen=still, paid=cost[:, 1], certified=[]
    )
    report = examine(outcomes)
    assert report.earns is None
    assert report.verdict.startswith("There is nothing to route: big is cheaper and better (")
    assert report.verdict.endswith("Route nothing away from it.")
    cheap, big = report.models
    assert (cheap.dominated_by, cheap.on_hull) == ("big", False)
    assert (big.dominated_by, big.on_hull) == (None, True)
    assert report.curves == []


def test_a_promise_that_is_broken_is_said_before_anything_else():
    outcomes = made()
    quality = outcomes.quality.copy()
    mine = np.flatnonzero((outcomes.group == "b") & (outcomes.chosen == CHEAP))
    quality[mine[::8], CHEAP] = 0
    report = examine(replace(outcomes, quality=quality))
    assert report.earns is False
    assert report.verdict.startswith("It does not: its promise is broken in b.")
    kept, broken = report.groups
    assert (kept.verdict, broken.verdict) == ("kept", "broken")
    assert broken.certified_agreement == 0.96
    assert broken.achieved is not None
    assert broken.achieved.high < 0.95
    assert any("b: 95% is promised, 8" in line for line in report.warnings)


def test_below_the_promise_on_few_rows_is_doubt_and_no_breach():
    outcomes = made(n=60)
    quality = np.ones((60, 2))
    quality[:4, CHEAP] = 0
    report = examine(
        routed(replace(outcomes, quality=quality), np.ones(60, bool), group=np.array(["a"] * 60))
    )
    assert report.groups[0].verdict == "in doubt"


def test_without_a_certificate_it_says_why_and_what_the_score_is_worth():
    refused = certificate().model_copy(update={"threshold": None})
    nothing = [CertifiedGroup("a", None, refused, "agreement is too low: 0.8 of its rows")]
    report = examine(routed(made(), np.zeros(N, bool), certified=nothing))
    assert report.earns is False
    assert "a: agreement is too low: 0.8 of its rows" in report.verdict
    assert "the score is worth more than prompt length: APGR 0." in report.verdict
    assert report.router(POLICY).agreement is None
    assert report.comparisons == []


def test_sending_everything_away_takes_no_router():
    report = examine(routed(made(wrong=0.001), np.ones(N, bool)))
    assert report.earns is False
    assert "sends everything away from big" in report.verdict


def test_a_router_that_is_dearer_than_the_best_single_model_does_not_earn():
    outcomes = made()
    report = examine(replace(outcomes, paid=np.full(N, 0.02)))
    assert report.earns is False
    assert "neither cheaper nor better than the best single model" in report.verdict


def test_a_target_above_what_the_reference_agrees_with_itself_is_warned_of():
    report = examine(replace(made(), self_agreement=(200, 184)))
    assert report.self_agreement is not None
    assert report.self_agreement.value == 0.92
    assert any("big agrees with itself in 92.0%" in line for line in report.warnings)
    assert examine(replace(made(), self_agreement=(200, 199))).warnings == []
    assert examine(made()).self_agreement is None


def test_the_same_rows_give_the_same_report():
    assert examine(made()).to_json() == examine(made()).to_json()


def test_every_router_stands_beside_its_controls():
    names = [line.name for line in examine(made()).routers]
    assert names == [POLICY, RANDOM, LENGTH, "always cheap", "always big", SINGLE, ORACLE]
    with pytest.raises(ValueError, match="no scored requests"):
        diagnose(made(n=0))


def test_three_models_have_a_hull_and_keep_their_shares():
    rng = np.random.default_rng(7)
    quality = np.column_stack([rng.random(N) < p for p in (0.8, 0.82, 1.1)]).astype(float)
    cost = np.tile([0.001, 0.006, 0.01], (N, 1))
    chosen = rng.integers(0, 3, N)
    outcomes = made(
        models=["small", "middle", "big"],
        reference=2,
        quality=quality,
        cost=cost,
        chosen=chosen,
        paid=cost[np.arange(N), chosen],
        best_single=np.full(N, 2),
    )
    report = examine(outcomes)
    assert [line.on_hull for line in report.models] == [True, False, True]
    assert (np.bincount(by_length(outcomes)) == np.bincount(chosen)).all()
    dealt = by_length(outcomes)
    assert outcomes.length[dealt == 0].max() <= outcomes.length[dealt == 1].min()
    assert outcomes.length[dealt == 1].max() <= outcomes.length[dealt == 2].min()
    assert report.router(RANDOM).usd == pytest.approx(report.router(POLICY).usd, rel=1e-9)


def test_the_hull_leaves_out_what_a_mix_of_others_beats():
    usd, quality = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.2, 0.3, 0.8, 0.7])
    assert hull(usd, quality) == [0, 2]
    assert hull(np.array([1.0, 1.0]), np.array([0.3, 0.5])) == [1]


def test_the_area_under_a_perfect_and_a_blind_ranking():
    """Half of the gap lies in a tenth of the rows: a perfect ranking has it at once."""
    good = np.ones(1_000)
    good[:100] = 0
    outcomes = made(n=1_000, quality=np.column_stack([good, np.ones(1_000)]))
    perfect = curve(outcomes, "x", good, resamples=50, seed=0)
    assert perfect.apgr is not None
    assert perfect.apgr.value == pytest.approx(0.95)  # ten bins see the first tenth as a slope
    assert (perfect.cpt50, perfect.cpt80) == pytest.approx((0.05, 0.08))
    blind = curve(outcomes, "x", np.zeros(1_000), resamples=200, seed=0)
    assert blind.apgr is not None
    assert blind.apgr.low < 0.5 < blind.apgr.high
    backward = curve(outcomes, "x", -good, resamples=50, seed=0)
    assert backward.apgr is not None
    assert backward.apgr.value == pytest.approx(0.05)
    draws = apgr_draws(outcomes, ranked(good, 0), resamples=50, seed=0)
    assert draws.std() < 0.01


def test_where_the_models_are_equally_good_there_is_no_gap_to_recover():
    outcomes = made(quality=np.ones((N, 2)))
    report = examine(outcomes)
    assert [line.apgr for line in report.curves] == [None] * 4
    assert report.apgr_over_length is None


def test_the_paired_bootstrap_covers_a_known_difference():
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        pair = np.column_stack([rng.random(300) < 0.9, rng.random(300) < 0.8]).astype(float)
        gap = bootstrap(pair, lambda c: c[:, 0] - c[:, 1], resamples=300, seed=seed)
        inside += gap.low <= 0.1 <= gap.high
    assert inside / 200 >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)
