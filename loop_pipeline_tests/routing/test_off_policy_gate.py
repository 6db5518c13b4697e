"""A policy is judged on replayed and live requests before it comes into force."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student, student
from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.from_store import outcomes_of
from loop_pipeline.routing.evidence.calibration_rows import held_out_answers
from loop_pipeline.routing.evidence.logged_requests import logged_requests
from loop_pipeline.routing.gold_check import check_on_gold
from loop_pipeline.routing.off_policy_gate import check
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import GroupMemberRow, QualityScoreRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.routing.stored import store_world
from loop_pipeline_tests.routing.test_offers import contender
from loop_pipeline_tests.serving.examples import OLD, add_answers, add_traces, trace_row

NOW = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
SURE = {"min": -0.01, "p10": -0.01, "mean": -0.005, "sum": -0.01}
UNSURE = {"min": -9.0, "p10": -9.0, "mean": -3.0, "sum": -9.0}


@pytest.fixture(scope="module")
def policy(world: World) -> PolicyBundle:
    return world.fit(student=student(OLD))


@pytest.fixture
def group(policy: PolicyBundle) -> str:
    return next(g.group_id for g in policy.groups if g.arm == "student")


def members(engine: Engine, group: str, names: list[str]) -> None:
    rows = [{"prompt_id": n, "group_id": group, "distance": 0.1, "x": 0.0, "y": 0.0} for n in names]
    with engine.begin() as connection:
        upsert(connection, GroupMemberRow, rows)


def replayed(engine: Engine, group: str, n: int, wrong: int = 0) -> list[str]:
    """Gold requests, answered by the student; it is sure of all, and wrong in the first."""
    names = [f"g{i:04d}" for i in range(n)]
    add_student(engine, OLD)
    add_traces(engine, *(trace_row(name, "x", cost_usd=0.01) for name in names))
    members(engine, group, names)
    sure = {f"logprob_{k}": v for k, v in SURE.items()}
    add_answers(engine, OLD, {name: ("x", i >= wrong) for i, name in enumerate(names)}, **sure)
    return names


def routed(name: str, *, serve: bool, shadow: bool, right: bool = True) -> list[dict[str, Any]]:
    """A live request of a group that the student may serve, as the gateway records it."""
    route = {"arm": "student", "adapter": adapter_name(OLD), "propensity": 0.02, "shadow": shadow}
    fields = {"ts": NOW, "text": f"live {name}", "split": "train"}
    own = fields | {"producer": "student", "logprobs": SURE if serve else UNSURE}
    frontier = fields | {"cost_usd": 0.02}
    output = "same words" if right else "no"
    if serve:
        rows = [trace_row(name, output, **own, route=route)]
        if shadow:
            said = {"shadow_of": name}
            rows.append(trace_row(f"{name}-f", "same words", **frontier, route=said))
        return rows
    said = {"shadow_of": name, "adapter": adapter_name(OLD)}
    return [
        trace_row(name, "same words", **frontier, route=route),
        trace_row(f"{name}-s", output, **own, route=said),
    ]


def test_a_good_student_passes_on_replayed_rows(engine: Engine, policy, group):
    replayed(engine, group, 400, wrong=8)
    report = check(engine, policy)
    assert report.passed
    assert (report.requests, report.replayed) == (400, 400)
    assert report.agreement is not None
    assert report.agreement.dr == pytest.approx(0.98)
    assert report.overall is not None
    assert (report.overall.effective, report.overall.max_weight) == (400, 1)
    assert report.quality is None, "nobody scored the answers"
    assert report.usd is not None
    assert report.usd.dr == pytest.approx(0.0002 + 0.02 * 0.01)
    document = json.loads(report.to_json())
    assert document["passed"]
    assert document["sentences"][-1] == "may come into force: nothing speaks against it"


def test_one_that_breaks_its_promise_is_refused_with_the_figures(engine: Engine, policy, group):
    replayed(engine, group, 400, wrong=60)
    report = check(engine, policy)
    assert not report.passed
    assert "is 0.850 and at most 0.88" in report.reason
    assert "promised is 0.950" in report.reason


def test_too_few_rows_are_refused(engine: Engine, policy, group):
    replayed(engine, group, 199)
    report = check(engine, policy)
    assert not report.passed
    assert "worth 199 direct observations" in report.reason
    add_traces(engine)
    assert not check(engine, policy.model_copy(update={"student": student("f" * 64)})).passed


def test_a_policy_that_serves_nothing_needs_no_evidence(engine: Engine, world):
    nothing = world.fit(world.answers.assign(agrees=False), student=student(OLD))
    report = check(engine, nothing)
    assert report.passed
    assert report.reason == "no cheaper model serves anything"


def test_live_requests_carry_the_chance_they_were_seen_with(engine: Engine, policy, group):
    replayed(engine, group, 10)
    add_traces(
        engine,
        *routed("a", serve=True, shadow=False),
        *routed("b", serve=True, shadow=True, right=False),
        *routed("c", serve=False, shadow=False),
        trace_row("d", "x", ts=NOW, text="d", route={"arm": "frontier", "propensity": 0.02}),
        trace_row("e", "x", ts=NOW, text="e", route={"arm": "frontier"}),
    )
    members(engine, group, ["a", "b", "c", "d", "e"])
    rows = logged_requests(engine, policy).set_index("prompt_id").loc[["a", "b", "c", "d"]]
    assert len(logged_requests(engine, policy)) == 14, "without a propensity it is no evidence"
    assert rows["p_model"].tolist() == [1, 1, 1, 0.02]
    assert rows["p_frontier"].tolist() == [0.02, 0.02, 1, 1]
    assert rows["serves"].tolist()[:3] == [1, 1, 0]
    assert rows["serves"].isna().tolist() == [False, False, False, True]
    assert rows["agrees"].fillna(-1).tolist() == [-1, 0, 1, -1]
    assert rows["frontier_usd"].fillna(-1).tolist() == [-1, 0.02, 0.02, 0]


def test_without_conversation_ids_a_user_s_hour_belongs_together(engine: Engine, policy, group):
    replayed(engine, group, 2)
    route = {"arm": "frontier", "propensity": 0.02}
    asked = {"a": ("u", 0), "b": ("u", 30), "c": ("u", 90), "d": (None, 0), "e": (None, 1)}
    add_traces(engine, *routed("z", serve=True, shadow=False))
    add_traces(
        engine,
        *(
            trace_row(
                name,
                "x",
                ts=NOW + dt.timedelta(minutes=minute),
                text=name,
                route=route,
                user_hash=user,
                split="train",
            )
            for name, (user, minute) in asked.items()
        ),
    )
    members(engine, group, list(asked))
    cluster = logged_requests(engine, policy).set_index("prompt_id")["cluster"]
    assert cluster["a"] == cluster["b"]
    assert cluster[list(asked)].nunique() == 4


def test_live_rows_weigh_what_they_are_worth_and_are_looked_at_alone(engine: Engine, policy, group):
    """Of 1,000 served requests 2% were shadowed; a fifth of those was wrong."""
    replayed(engine, group, 1_000)
    names = [f"l{i}" for i in range(1_000)]
    for i, name in enumerate(names):
        shadow = i % 50 == 0
        add_traces(engine, *routed(name, serve=True, shadow=shadow, right=i % 250 != 0))
    members(engine, group, names)
    report = check(engine, policy)
    assert report.overall is not None
    assert report.agreement is not None
    assert report.live_agreement is not None
    assert report.overall.max_weight == pytest.approx(2_000 / 1_020)
    assert report.agreement.snips == pytest.approx((1_000 + 16) / 1_020)
    assert report.agreement.dr == pytest.approx((1_000 + 16) / 1_020, abs=0.01)
    assert report.overall.effective == pytest.approx(1_020), "no row makes it worse"
    assert report.live_agreement.snips == pytest.approx(0.8)
    assert not report.passed
    assert report.reason.startswith("on live requests alone, agreement of what would be served")


def test_quality_is_of_the_answer_that_would_go_out(engine: Engine, policy, group):
    names = replayed(engine, group, 400, wrong=8)
    scored = [
        {"prompt_id": n, "day": "2026-08-01", "score": 0.9, "threshold": None, "version": "v"}
        | {"origin": "model", "because": {}}
        for n in names
    ]
    with engine.begin() as connection:
        upsert(connection, QualityScoreRow, scored)
    report = check(engine, policy)
    assert report.quality is not None
    # Eight answers differ from the frontier's and nobody looked at them: they count as bad.
    assert report.quality.dr == pytest.approx(0.9 * 392 / 400)


def test_of_three_models_the_one_that_is_asked_is_judged(engine: Engine, world):
    mini = contender(world, "mini", 0.0001)
    costs = {
        "frontier_usd_per_request": {g.group_id: 0.01 for g in world.groups.active},
        "student_usd_per_request": 0.004,
    }
    bundle = world.fit(student=student(OLD), others=[mini], costs=costs)
    store_world(engine, world.answers)
    gold = check_on_gold(bundle, world.answers, [mini]).set_index("group_id").loc["all"]
    report = check(engine, bundle, [mini])
    assert report.passed
    assert report.agreement is not None
    assert report.share_served is not None
    assert report.usd is not None
    assert report.agreement.dr == pytest.approx(gold["agreement"])
    assert report.share_served.dr == pytest.approx(gold["coverage"])
    assert {g.model for g in bundle.groups} == {"mini", None}

    found = outcomes_of(bundle, held_out_answers(engine, OLD), [mini])
    assert found.models == ["student-aaaaaaaaaaaa", "mini", "big"]
    assert (found.chosen != 2).mean() == pytest.approx(gold["coverage"])
    doctor = diagnose(found, resamples=100)
    policy = doctor.router("policy")
    assert policy.agreement is not None
    assert policy.agreement.value == pytest.approx(gold["agreement"])
    assert policy.usd == pytest.approx(report.usd.dr)
