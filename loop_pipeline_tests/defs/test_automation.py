from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from loop_pipeline.definitions import defs
from loop_pipeline.defs.automation import enough_new_pairs, late_feedback, unlabelled_days
from loop_pipeline.defs.jobs import label_traces, retrain
from loop_pipeline.defs.resources import Loop
from loop_pipeline.store.database import insert_new, upsert
from loop_pipeline.store.tables import (
    CheckpointRow,
    DatasetRow,
    FeedbackRow,
    HallucinationFlagRow,
    LabeledPairRow,
    QualityScoreRow,
    TraceRow,
)

ROOT = Path(__file__).parents[2]
LONG_AGO = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture(autouse=True)
def _threshold(monkeypatch: pytest.MonkeyPatch, store_url: str) -> None:
    monkeypatch.setenv("LOOP_RETRAIN_EVERY", "10")


def _pairs(engine: Engine, n: int) -> None:
    trace = {
        "ts": LONG_AGO,
        "day": "2026-01-01",
        "app": "a",
        "template_hash": "t",
        "messages": [],
        "output": "o",
        "producer": "frontier",
        "model": "m",
        "tokens_in": 0,
        "tokens_cached": 0,
        "tokens_out": 0,
        "cost_usd": 0.0,
        "split": "train",
        "simulated": False,
        "source": "s",
    }
    pair = {"day": "2026-01-01", "kind": "sft", "chosen": "o", "reason": "r", "version": "1"}
    with engine.begin() as connection:
        rows = [trace | {"prompt_id": f"p{i}", "dedup_key": f"k{i}"} for i in range(n)]
        insert_new(connection, TraceRow, rows)
        pairs = [pair | {"pair_id": f"p{i}", "prompt_id": f"p{i}"} for i in range(n)]
        insert_new(connection, LabeledPairRow, pairs)


def _trained(engine: Engine, pairs: int, when: dt.datetime) -> None:
    dataset = {
        "dataset_id": "d",
        "created_at": when,
        "folder": "f",
        "counts": {},
        "validated_pairs": pairs,
    }
    checkpoint = {
        "checkpoint_id": "c",
        "created_at": when,
        "dataset_id": "d",
        "base_dir": "b",
        "adapter_dir": "a",
        "adapter_sha256": "c",
        "metrics": {},
        "status": "approved",
        "reason": "r",
    }
    with engine.begin() as connection:
        upsert(connection, DatasetRow, [dataset])
        upsert(connection, CheckpointRow, [checkpoint])


def _tick(instance: dg.DagsterInstance) -> tuple[list[str | None], str]:
    context = dg.build_sensor_context(instance=instance, resources={"loop": Loop()})
    data = enough_new_pairs.evaluate_tick(context)
    return [request.run_key for request in data.run_requests or []], data.skip_message or ""


def test_below_the_threshold_it_waits(engine: Engine, instance: dg.DagsterInstance) -> None:
    _pairs(engine, 9)
    assert _tick(instance) == ([], "9 validated pairs; next training at 10")


def test_at_the_threshold_it_retrains(engine: Engine, instance: dg.DagsterInstance) -> None:
    _pairs(engine, 10)
    assert _tick(instance)[0] == ["validated-10"]


def test_one_request_a_crossing(engine: Engine, instance: dg.DagsterInstance) -> None:
    _pairs(engine, 27)
    assert _tick(instance)[0] == ["validated-20"]
    assert _tick(instance)[0] == ["validated-20"]  # the same key: Dagster runs it once
    _trained(engine, 27, LONG_AGO)
    assert _tick(instance) == ([], "27 validated pairs; next training at 30")
    _pairs(engine, 30)
    assert _tick(instance)[0] == ["validated-30"]


def test_it_cools_down(engine: Engine, instance: dg.DagsterInstance) -> None:
    _pairs(engine, 40)
    _trained(engine, 10, dt.datetime.now(dt.UTC) - dt.timedelta(hours=23))
    assert "cooling down" in _tick(instance)[1]
    _trained(engine, 10, dt.datetime.now(dt.UTC) - dt.timedelta(hours=25))
    assert _tick(instance)[0] == ["validated-40"]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_a_training_in_flight_is_not_doubled(
    engine: Engine, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    _pairs(engine, 10)
    run = dg.DagsterRun(job_name=retrain.name, status=status)
    instance.add_run(run)
    assert _tick(instance) == ([], f"run {run.run_id} of retrain is not over yet")


def test_after_a_failed_training_the_next_crossing_retrains(
    engine: Engine, instance: dg.DagsterInstance
) -> None:
    _pairs(engine, 20)
    instance.add_run(dg.DagsterRun(job_name=retrain.name, status=dg.DagsterRunStatus.FAILURE))
    assert _tick(instance)[0] == ["validated-20"]


def _late(engine: Engine, received: dt.datetime) -> None:
    """A labelled day, and feedback on it that came at a moment."""
    _pairs(engine, 1)
    score = {"prompt_id": "p0", "day": "2026-01-01", "origin": "none", "because": {}}
    said = {
        "feedback_id": received.isoformat(),
        "prompt_id": "p0",
        "kind": "rejected",
        "ts": LONG_AGO,
        "received_at": received,
        "source": "s",
    }
    with engine.begin() as connection:
        insert_new(connection, QualityScoreRow, [score])
        insert_new(connection, FeedbackRow, [said])


def test_late_feedback_labels_its_day_again_once(
    engine: Engine, instance: dg.DagsterInstance
) -> None:
    def tick(cursor: str | None) -> tuple[list[tuple[str | None, str | None]], str | None]:
        context = dg.build_sensor_context(
            instance=instance,
            resources={"loop": Loop()},
            cursor=cursor,
            repository_def=defs().get_repository_def(),
        )
        data = late_feedback.evaluate_tick(context)
        found = [(r.partition_key, r.run_key) for r in data.run_requests or []]
        return found, data.cursor

    _late(engine, LONG_AGO)
    nothing, cursor = tick(None)  # what came before the sensor was turned on is labelled already
    assert nothing == []
    assert cursor is not None
    now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    _late(engine, now)
    requests, cursor = tick(cursor)
    assert [day for day, _ in requests] == ["2026-01-01"]
    assert tick(cursor)[0] == requests  # the same key: Dagster runs it once
    assert late_feedback.job.name == label_traces.name


STATES = """
import json
from loop_pipeline.definitions import defs
repository = defs().get_repository_def()
every = [*repository.schedule_defs, *repository.sensor_defs]
print(json.dumps({one.name: one.default_status.value for one in every}))
"""


@pytest.mark.parametrize(("setting", "state"), [("true", "RUNNING"), ("", "STOPPED")])
def test_schedules_and_sensors_are_on_where_the_setting_says_so(setting: str, state: str) -> None:
    given = {"LOOP_SCHEDULES": setting} if setting else {}
    said = subprocess.run(
        [sys.executable, "-c", STATES],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | given,
    )
    states = json.loads(said.stdout.splitlines()[-1])
    assert len(states) >= 9
    assert set(states.values()) == {state}


def _open_days(instance: dg.DagsterInstance) -> tuple[list[str | None], str]:
    context = dg.build_sensor_context(
        instance=instance,
        resources={"loop": Loop()},
        repository_def=defs().get_repository_def(),
    )
    data = unlabelled_days.evaluate_tick(context)
    return [request.run_key for request in data.run_requests or []], data.skip_message or ""


def test_days_with_answers_without_a_flag_are_labelled(
    engine: Engine, instance: dg.DagsterInstance
) -> None:
    assert "has its flag" in _open_days(instance)[1]
    _pairs(engine, 3)
    assert _open_days(instance)[0] == ["unlabelled-2026-01-01-3-of-3"]
    flag = {
        "day": "2026-01-01",
        "grounded": "yes",
        "score": 0.0,
        "flag": False,
        "tier": "T0",
        "reasons": [],
        "spans": [],
        "version": "1",
    }
    with engine.begin() as connection:
        insert_new(
            connection, HallucinationFlagRow, [flag | {"prompt_id": f"p{i}"} for i in (0, 2)]
        )
    assert _open_days(instance)[0] == ["unlabelled-2026-01-01-1-of-3"]
    run = dg.DagsterRun(job_name=label_traces.name, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    assert "is not over yet" in _open_days(instance)[1]
