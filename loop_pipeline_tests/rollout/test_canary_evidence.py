"""Evidence on a canary: live answers to the same requests, each conversation and request once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import BORN, add_student, student
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.rollout import canary_watch, move_rollout
from loop_pipeline.rollout.canary_evidence import current_rollout, paired_outcomes
from loop_pipeline.rollout.release import advance, in_force, introduce, roll_back
from loop_pipeline.routing.policy import EXPLORATION_RATE, ROLLOUT_RATE
from loop_pipeline.settings import load_settings
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import insert_new, read
from loop_pipeline.store.policies import policy_events
from loop_pipeline.store.tables import CheckpointRow, ContractRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import NEW, OLD, add_answers, add_traces, trace_row


@pytest.fixture
def trial(engine: Engine, world: World, tmp_path: Path) -> Engine:
    """NEW is in shadow beside OLD."""
    first = world.fit(student=student(OLD))
    for name, bundle in ((OLD, first), (NEW, world.fit(student=student(NEW), previous=first))):
        add_student(engine, name)
        folder = tmp_path / "home/artifacts/policies"
        introduce(engine, folder, bundle, staged=True, secret=load_settings().secret())
    return engine


def asked(
    number: int, when: dt.datetime, *, frontier: str = "x", old: str = "x", new: str = "x"
) -> list[dict[str, Any]]:
    """One request as the gateway records it: the champion served, two others were shadows."""
    text, name = f"live {number}", f"live{number}"

    def row(key: str, output: str, producer: str, **route: Any) -> dict[str, Any]:
        return trace_row(key, output, ts=when, text=text, producer=producer, route=route)

    return [
        row(name, old, "student", adapter=adapter_name(OLD), shadow_of=None),
        row(f"{name}-f", frontier, "frontier", shadow_of=name),
        row(f"{name}-n", new, "student", adapter=adapter_name(NEW), shadow_of=name, canary=True),
    ]


def replay(engine: Engine, worse: int, better: int, same: int) -> None:
    """Held-out requests both answered."""
    keys = [f"h{i}" for i in range(worse + better + same)]
    add_traces(engine, *(trace_row(k, "x", split="calibration") for k in keys))
    new = {k: ("x", not i < worse) for i, k in enumerate(keys)}
    old = {k: ("x", not worse <= i < worse + better) for i, k in enumerate(keys)}
    for name, answers in ((NEW, new), (OLD, old)):
        add_answers(engine, name, answers, split="calibration")


def outcomes(engine: Engine) -> pd.DataFrame:
    bundle = in_force(engine)
    assert bundle is not None
    started = policy_events(engine)["at"].iloc[-1]
    return paired_outcomes(engine, bundle, started).set_index("prompt_id")


def test_live_answers_to_one_request_are_put_together(trial: Engine) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    label = {"kind": "label", "labels": ["refund", "visa"]}
    with trial.begin() as connection:
        insert_new(connection, ContractRow, [{"contract_id": "c", "body": label}])
    worse = asked(1, now, frontier="refund", old="Refund", new="visa")
    add_traces(trial, *({**row, "contract_id": "c"} for row in worse))
    add_traces(trial, *asked(2, now, old="other words altogether here"))
    add_traces(trial, *asked(3, now)[:2], *asked(4, now)[1:], *asked(5, now)[::2])
    add_traces(trial, *asked(6, BORN))
    add_traces(trial, *({**row, "prompt_id": f"again-{row['prompt_id']}"} for row in asked(7, now)))
    found = outcomes(trial)
    assert found.index.tolist() == ["live1", "live2"], "incomplete ones and old ones do not count"
    assert found["challenger_disagrees"].tolist() == [True, False]
    assert found["champion_disagrees"].tolist() == [False, True]


def test_a_request_that_comes_again_is_no_new_evidence(trial: Engine) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    same = {"text": "where is my order?"}
    rows = [row | {"dedup_key": "k"} for n in range(5) for row in asked(n, now)]
    add_traces(trial, *rows, trace_row("h0", "x", split="gold", **same))
    add_answers(trial, NEW, {"h0": ("x", False)})
    add_answers(trial, OLD, {"h0": ("x", True)})
    assert len(outcomes(trial)) == 1, "and the gold split, which decided the gate, is left out"


def live(engine: Engine, worse: int, better: int, same: int, start: int = 0) -> None:
    """Requests of the rollout's own time that all three answered."""
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    rows: list[dict[str, Any]] = []
    for n in range(worse + better + same):
        wrong = {"new": "no"} if n < worse else {"old": "no"} if n < worse + better else {}
        rows += asked(start + n, now, **wrong)
    add_traces(engine, *rows)


def test_live_answers_lead_out_of_shadow_and_a_hundred_of_a_stage_out_of_it(
    trial: Engine, tmp_path: Path
) -> None:
    live(trial, worse=3, better=9, same=900)
    rollout = current_rollout(trial)
    assert rollout is not None
    assert (rollout.due.action, rollout.due.stage_rows) == ("advance", 912)
    folder = tmp_path / "home/artifacts/policies"
    advance(trial, folder, actor="test", reason=rollout.due.reason, due=rollout.due)
    evidence = policy_events(trial)["evidence"].iloc[-1]
    assert (evidence["rows"], evidence["worse"], evidence["better"]) == (912, 3, 9)


def test_a_stage_takes_rows_of_its_own(trial: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "home/artifacts/policies"
    rollout = current_rollout(trial)
    assert rollout is not None
    advance(trial, folder, actor="test", reason="on to the next stage", due=rollout.due)
    live(trial, worse=0, better=0, same=10)
    rollout = current_rollout(trial)
    assert rollout is not None
    assert "15 more paired requests needed in stage 1%" in rollout.due.reason


def test_without_a_single_live_answer_the_shadow_stage_is_not_left(trial: Engine) -> None:
    replay(trial, worse=3, better=9, same=900)
    rollout = current_rollout(trial)
    assert rollout is not None
    assert (rollout.due.action, rollout.due.rows) == ("wait", 0)
    assert "no live request was answered by frontier, champion and" in rollout.due.reason


def test_a_replay_without_a_difference_cannot_outweigh_live_answers_that_are_worse(
    trial: Engine,
) -> None:
    replay(trial, worse=60, better=60, same=2_880)
    live(trial, worse=24, better=4, same=172)
    rollout = current_rollout(trial)
    assert rollout is not None
    assert (rollout.due.action, rollout.due.rows) == ("stop", 200)


def test_of_a_conversation_only_the_first_answer_is_evidence(trial: Engine) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    turns = [asked(n, now + dt.timedelta(seconds=n), new="no") for n in range(5)]
    add_traces(trial, *(row | {"conversation_id": "c1"} for turn in turns for row in turn))
    alone = asked(9, now)
    add_traces(trial, *(row | {"user_hash": "u"} for row in alone))
    soon = asked(10, now + dt.timedelta(seconds=1))
    add_traces(trial, *(row | {"user_hash": "u"} for row in soon))
    later = asked(11, now + dt.timedelta(hours=2))
    add_traces(trial, *(row | {"user_hash": "u"} for row in later))
    assert outcomes(trial).index.tolist() == ["live0", "live9", "live11"]


def test_more_is_shadowed_while_a_rollout_runs_and_less_again_after_it(
    trial: Engine, tmp_path: Path
) -> None:
    during = in_force(trial)
    assert during is not None
    assert during.exploration_rate == ROLLOUT_RATE == 0.2
    after = roll_back(trial, tmp_path / "p", actor="test", reason="enough")
    assert after.exploration_rate == EXPLORATION_RATE


def tick(instance: dg.DagsterInstance) -> tuple[list[str | None], str]:
    context = dg.build_sensor_context(instance=instance, resources={"loop": Loop()})
    data = canary_watch.evaluate_tick(context)
    return [request.run_key for request in data.run_requests or []], data.skip_message or ""


def test_the_sensor_stops_a_canary_that_disagrees_more_often(trial: Engine) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    with dg.instance_for_test() as instance:
        assert "100 more paired requests needed in stage shadow" in tick(instance)[1]
        add_traces(trial, *(row for n in range(40) for row in asked(n, now, new="wrong")))
        [key], _ = tick(instance)
        assert str(key).endswith("-shadow-stop-40")
        run = move_rollout.execute_in_process(instance=instance, resources={"loop": Loop()})
        assert run.success
        assert tick(instance) == ([], "no rollout is in progress")
    rows = read(trial, CheckpointRow).set_index("checkpoint_id")
    assert rows["status"].to_dict() == {OLD: "approved", NEW: "retired"}
    last = policy_events(trial).iloc[-1]
    assert (last["action"], last["actor"]) == ("stopped", "canary_watch")
    assert "the challenger alone disagrees on 40" in last["reason"]
    assert last["evidence"]["harm"] >= 20


def test_a_step_in_flight_is_not_doubled(trial: Engine) -> None:
    with dg.instance_for_test() as instance:
        run = dg.DagsterRun(job_name=move_rollout.name, status=dg.DagsterRunStatus.STARTED)
        instance.add_run(run)
        assert tick(instance) == ([], f"run {run.run_id} of move_rollout is not over yet")
