"""The doctor on a store: the policy in force, on gold rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from benchmarks.fixtures import student
from loop_pipeline.cli.main import app
from loop_pipeline.doctor.examine import diagnose
from loop_pipeline.doctor.from_store import NothingToJudge, outcomes_in_force, self_agreement
from loop_pipeline.rollout.release import in_force, introduce
from loop_pipeline.routing.evidence.calibration_rows import held_out_answers
from loop_pipeline.routing.gold_check import check_on_gold
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import ContractRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.routing.stored import store_world
from loop_pipeline_tests.serving.examples import OLD, add_traces, trace_row


@pytest.fixture
def routed(engine: Engine, world: World, tmp_path: Path) -> Engine:
    """A store whose policy in force is the world's."""
    store_world(engine, world.answers)
    bundle = world.fit(student=student(OLD))
    introduce(engine, tmp_path / "home/artifacts/policies", bundle, staged=True)
    return engine


def test_it_judges_the_policy_in_force_on_gold_rows(routed: Engine):
    found = outcomes_in_force(routed, load_settings())
    bundle = in_force(routed)
    assert bundle is not None
    gold = check_on_gold(bundle, held_out_answers(routed, OLD)).set_index("group_id")
    report = diagnose(found, resamples=200)
    policy = report.router("policy")
    assert policy.agreement is not None
    assert policy.share_away == pytest.approx(gold.loc["all", "coverage"])
    assert policy.agreement.value == pytest.approx(gold.loc["all", "agreement"])
    assert report.earns
    assert [g.served for g in report.groups] == [
        gold.loc[g.group_id, "served"] for g in bundle.groups
    ]
    assert report.rows["gold"] == gold.loc["all", "n"]
    always = report.router("always big")
    assert always.usd == pytest.approx(0.01)
    kept = policy.share_away
    asked = np.isin(found.group, [g.name for g in bundle.groups]).mean()
    assert policy.usd == pytest.approx(asked * 0.0002 + (1 - kept * 0.98) * 0.01)
    assert any("the certificates are void: detector is" in line for line in report.warnings)


def test_without_a_policy_or_gold_answers_it_says_what_is_missing(engine: Engine, world, tmp_path):
    settings = load_settings()
    with pytest.raises(NothingToJudge, match="no student is in force"):
        outcomes_in_force(engine, settings)
    store_world(engine, world.answers[world.answers["split"] != "gold"])
    folder = tmp_path / "home/artifacts/policies"
    introduce(engine, folder, world.fit(student=student(OLD)), staged=True)
    with pytest.raises(NothingToJudge, match="no gold request was answered by student-aaaa"):
        outcomes_in_force(engine, settings)


def test_a_request_that_the_frontier_answered_twice_tells_its_own_agreement(engine: Engine):
    label = {"kind": "label", "labels": ["refund", "visa"]}
    with engine.begin() as connection:
        upsert(connection, ContractRow, [{"contract_id": "c", "body": label}])
    said = [("a", "refund"), ("a", "Refund "), ("a", "visa"), ("b", "visa"), ("b", "refund")]
    said += [("c", "visa"), ("d", "visa")]
    add_traces(
        engine,
        *(
            trace_row(f"p{i}", output, dedup_key=key, contract_id="c")
            for i, (key, output) in enumerate(said)
        ),
        trace_row("q", "visa", dedup_key="c", contract_id="c", model="other"),
        trace_row("r", "visa", dedup_key="d", contract_id="c", producer="student"),
    )
    assert self_agreement(engine, "big") == (2, 1)
    assert self_agreement(engine, "nobody") == (0, 0)


def test_a_target_above_the_frontiers_own_agreement_is_warned_of(routed: Engine):
    found = outcomes_in_force(routed, load_settings())
    assert found.self_agreement == (0, 0)
    report = diagnose(found, resamples=50)
    assert report.self_agreement is None
    low = dataclasses.replace(found, self_agreement=(100, 90))
    assert any("agrees with itself in 90.0%" in w for w in diagnose(low, resamples=50).warnings)


def test_a_certificate_that_the_gold_rows_contradict_is_broken(engine: Engine, world, tmp_path):
    """Certified on rows that flattered the student."""
    bundle = world.fit(student=student(OLD))
    answers = world.answers.copy()
    gold = answers.index[answers["split"] == "gold"]
    answers.loc[gold[::5], "agrees"] = False
    store_world(engine, pd.DataFrame(answers))
    introduce(engine, tmp_path / "home/artifacts/policies", bundle, staged=True)
    report = diagnose(outcomes_in_force(engine, load_settings()), resamples=50)
    assert report.earns is False
    assert report.verdict.startswith("It does not: its promise is broken in ")


def test_the_command_needs_no_argument(routed: Engine):
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("policy ")
    assert "It earns its keep: of the" in done.output
