"""More than two models: the cheapest certified one is asked, and the promises hold at once."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.confidence.certificate import shared_delta
from loop_pipeline.confidence.request_score import UNLIKE, fit_request_score
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.hashing import seal_of
from loop_pipeline.routing.gold_check import check_on_gold, gold_outcomes
from loop_pipeline.routing.offers import (
    Contender,
    certify,
    choose,
    expected_usd,
    make_offer,
)
from loop_pipeline.routing.policy import BadBundle, PolicyBundle, load_bundle
from loop_pipeline.routing.router import Router
from loop_pipeline_tests.routing.conftest import World


def ask(text):
    return [{"role": "user", "content": text}]


def contender(world, name, usd, *, hard="visa", wrong=0.9, rest=0.02, seed=5) -> Contender:
    """A model that fails on requests with one word, which its request score can see."""
    rng = np.random.default_rng(seed)
    rows = world.answers
    chance = np.where(rows["text"].str.contains(hard), wrong, rest)
    agrees = rng.random(len(rows)) >= chance
    vectors = world.embedder.transform(rows["text"].tolist())
    fit = (rows["split"] == "validation").to_numpy()
    score = fit_request_score(rows["text"][fit].tolist(), vectors[fit], agrees[fit])
    columns = rows[["prompt_id", "split", "group_id"]]
    values = score.values(rows["text"].tolist(), vectors)
    return Contender(name, f"{name}-1", usd, score, columns.assign(agrees=agrees, score=values))


@pytest.fixture(scope="module")
def mini(world: World) -> Contender:
    return contender(world, "mini", 0.0001)


@pytest.fixture(scope="module")
def three(world: World, mini: Contender) -> PolicyBundle:
    nano = contender(world, "nano", 0.00001, hard="", wrong=0.3, rest=0.3)
    dear_student = {
        "frontier_usd_per_request": {g.group_id: 0.01 for g in world.groups.active},
        "student_usd_per_request": 0.004,
    }
    return world.fit(others=[nano, mini], costs=dear_student)


def test_the_cheapest_certified_model_is_asked(world, mini, three):
    for group in three.groups:
        offers = {offer.model: offer for offer in group.offers}
        assert set(offers) == {"student-c1", "mini", "nano"}
        assert "agreement is too low" in offers["nano"].reason
        good = {n: o.expected_usd_per_request for n, o in offers.items() if o.threshold is not None}
        cheapest = min(good, key=lambda name: good[name])
        assert (group.model or "student-c1") == cheapest
        assert group.expected_usd_per_request == good[cheapest]
        assert group.delta == pytest.approx(shared_delta(0.05, 3 * len(three.groups), 1))
    assert {group.model for group in three.groups} != {None}


def test_gold_confirms_every_model_that_is_asked(world, mini, three):
    gold = check_on_gold(three, world.answers, [mini]).set_index("group_id")
    for group in three.groups:
        assert gold["agreement"][group.group_id] > 0.94
        assert gold["coverage"][group.group_id] == pytest.approx(group.coverage, abs=0.1)
    assert len(gold_outcomes(three, world.answers, [mini])) == gold.loc["all", "n"]


def test_the_router_asks_it_before_the_call_and_needs_no_log_probabilities(world, mini, three):
    router = Router.load(three, world.embedder)
    assert router.adapters == ("student-c1", "mini", "nano")
    asked = {g.group_id: g.threshold for g in three.groups if g.model == "mini"}
    rows = world.answers[world.answers["group_id"].isin(list(asked))].head(200)
    score = mini.rows.set_index("prompt_id")["score"]
    arms = set()
    for _, row in rows.iterrows():
        decision = router.decide(ask(row["text"]), row["prompt_id"], row["template_hash"])
        sure = score[row["prompt_id"]] >= asked[row["group_id"]]
        assert decision.score == score[row["prompt_id"]]
        assert (decision.adapter, decision.arm) == (
            ("mini", "student") if sure else (None, "frontier")
        )
        settled = router.settle(decision, "refund", None)
        assert settled.action == ("serve" if sure else "escalate")
        arms.add(decision.arm)
        if sure:
            assert router.settle(decision, " ", None).reason == "the answer is empty"
        else:
            assert decision.reason == "not sure enough before the call"
    assert arms == {"student", "frontier"}
    # Of a group by its words, and of a shape that the score has never seen.
    odd = rows["text"].iloc[0] + " {}=" * 400
    decision = router.decide(ask(odd), "odd", rows["template_hash"].iloc[0])
    assert decision.group_id in asked
    assert decision.reason == f"not sure enough before the call{UNLIKE}"


def test_the_document_survives_and_refuses_a_model_it_does_not_have(three):
    assert load_bundle(three.to_text()) == three
    document = json.loads(three.to_text())
    document["others"] = []
    del document["sha256"]
    with pytest.raises(BadBundle, match="not a model of it"):
        load_bundle(json.dumps(document | {"sha256": seal_of(document)}))


def test_other_models_in_any_order_give_the_same_bytes(world, mini):
    nano = contender(world, "nano", 0.00001, hard="", wrong=0.3, rest=0.3)
    one, two = world.fit(others=[mini, nano]), world.fit(others=[nano, mini])
    assert one.to_text() == two.to_text()
    newer = contender(world, "mini", 0.0001, seed=6)
    again = world.fit(others=[newer, nano], previous=one)
    assert again.recalibration == 2


def test_a_model_judged_before_the_call_costs_nothing_where_it_is_not_asked(mini, world):
    assert expected_usd(mini, 0.5, 0.01) == pytest.approx(0.5 * 0.0001 + 0.51 * 0.01)
    cascade = Contender("s", "1", 0.0001, world.fit().score, mini.rows)
    assert expected_usd(cascade, 0.5, 0.01) == pytest.approx(0.0001 + 0.51 * 0.01)
    assert expected_usd(mini, 0.5, None) is None


def test_without_prices_the_widest_certificate_is_taken(world, mini):
    nothing = {"frontier_usd_per_request": {}, "student_usd_per_request": None}
    policy = world.fit(others=[mini], costs=nothing)
    for group in policy.groups:
        good = {o.model: o.coverage for o in group.offers if o.threshold is not None}
        assert good[group.model or "student-c1"] == max(good.values())
        assert group.expected_usd_per_request is None
        if group.arm == "student":
            assert group.reason == f"certified; the frontier is {UNPRICED}"


def test_choosing_the_cheapest_of_three_breaks_no_more_promises(world, bundle):
    """Truth known: each model's best half is good, a promise over it may or may not hold."""
    rng, draws, broken = np.random.default_rng(3), 400, 0
    group, risk, n = world.groups.active[0], 0.05, 300
    delta = shared_delta(0.05, 3, 1)

    def wrong(score, slope):
        return np.clip(0.11 - slope * score, 0, 1)

    slopes = (0.12, 0.13, 0.14)
    pool = rng.random(200_000)
    for _ in range(draws):
        offers = []
        for name, slope in zip("abc", slopes, strict=True):
            score = rng.random(n)
            rows = pd.DataFrame(
                {
                    "prompt_id": range(n),
                    "split": "calibration",
                    "group_id": group.group_id,
                    "agrees": rng.random(n) >= wrong(score, slope),
                    "score": score,
                }
            )
            model = Contender(name, "1", 0.0001, bundle.score, rows)
            made = certify(model, group.group_id, alpha=risk, share=delta)
            offers.append(make_offer(model, made, 0.01))
        taken = choose(group, offers, student="a", delta=delta, frontier_usd=0.01)
        if taken.arm == "student" and taken.threshold is not None:
            slope = slopes["abc".index(taken.model or "a")]
            broken += wrong(pool[pool >= taken.threshold], slope).mean() > risk
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / draws)
    assert broken / draws <= allowed
