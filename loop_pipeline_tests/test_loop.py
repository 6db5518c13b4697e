"""One whole turn, small and real: import to policy, with QLoRA, MLflow and vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from loop_pipeline.demo.runs import turn_loop
from loop_pipeline.demo.turn import Turn
from loop_pipeline.routing.policy import load_bundle
from loop_pipeline.routing.router import Router
from loop_pipeline.store.checkpoints import newest_checkpoint
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import active_policy
from loop_pipeline.store.tables import (
    DatasetMemberRow,
    DeploymentRow,
    LabeledPairRow,
    StudentAnswerRow,
    TraceRow,
)
from loop_pipeline_tests.conftest import fresh_database
from loop_pipeline_tests.whole_turn import TOPICS, whole_turn


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for both stores: what the first turn has trained, the second finds there."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def turn(request: pytest.FixtureRequest, home: Path) -> Iterator[Turn]:
    """The store after a whole turn; on PostgreSQL, Dagster's own storage lies there too."""
    databases = {}
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        databases["LOOP_DATABASE_URL"] = fresh_database(server)
        databases["LOOP_DAGSTER_URL"] = fresh_database(server)
    with whole_turn(home, requests=2_400, environment=databases) as made:
        yield made


pytestmark = [pytest.mark.serve, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_an_approved_student_serves(turn: Turn) -> None:
    checkpoint = newest_checkpoint(turn.engine)
    assert checkpoint is not None
    assert checkpoint["status"] == "approved", checkpoint["reason"]
    assert checkpoint["metrics"]["agreement"] >= 0.97
    deployed = read(turn.engine, DeploymentRow).iloc[0]
    assert deployed["checkpoint_id"] == checkpoint["checkpoint_id"]


def test_it_never_saw_what_it_is_judged_on(turn: Turn) -> None:
    trained = set(read(turn.engine, DatasetMemberRow)["prompt_id"])
    judged = read(turn.engine, StudentAnswerRow, split=["calibration", "gold"])
    assert len(trained) > 900
    assert not trained & set(judged["prompt_id"])
    splits = read(turn.engine, TraceRow, columns=["prompt_id", "split"])
    assert set(splits[splits["prompt_id"].isin(trained)]["split"]) == {"train", "validation"}


def test_the_policy_routes_and_settles(turn: Turn) -> None:
    active = active_policy(turn.engine)
    assert active is not None
    bundle = load_bundle(active["bundle"])
    [group] = bundle.groups
    assert group.arm == "student", group.reason
    assert group.agreement_lower is not None
    assert group.agreement_lower >= 0.95
    path = turn.settings.artifacts / "policies" / f"{bundle.sha256[:16]}.json"
    router = Router.load(path)
    request = [
        {"role": "system", "content": "Classify."},
        {"role": "user", "content": "where is my parcel a1 0.5"},
    ]
    decision = router.decide(request, "new")
    assert decision.arm == "student"
    contract = {"kind": "label", "labels": sorted(TOPICS)}
    sure = router.settle(decision, "delivery", [-1e-7, -1e-7], contract, finish_reason="stop")
    unsure = router.settle(decision, "delivery", [-3.0, -2.0], contract, finish_reason="stop")
    wrong = router.settle(decision, "banana", [-0.0001, -0.0001], contract, finish_reason="stop")
    assert (sure.action, unsure.action, wrong.action) == ("serve", "escalate", "escalate")
    assert router.decide([{"role": "user", "content": "hello"}], "new").arm == "frontier"


def test_mlflow_knows_the_run_and_the_champion(turn: Turn) -> None:
    from mlflow.tracking import MlflowClient

    checkpoint = newest_checkpoint(turn.engine)
    assert checkpoint is not None
    client = MlflowClient(turn.settings.tracking_uri)
    run = client.get_run(checkpoint["mlflow_run_id"])
    assert run.data.params["lora_r"]
    assert len(client.get_metric_history(run.info.run_id, "loss")) > 1
    assert run.inputs is not None
    assert run.inputs.dataset_inputs
    assert run.data.metrics["gold_agreement"] == checkpoint["metrics"]["agreement"]
    if turn.engine.dialect.name == "sqlite":  # PostgreSQL's turn reuses what this one trained
        found = turn.instance.get_run_by_id(run.data.tags["dagster_run_id"])
        assert found is not None
        assert found.job_name == "retrain"
    champion = client.get_model_version_by_alias("loop-student", "champion")
    assert str(champion.version) == checkpoint["model_version"]


def test_dagster_shows_every_asset_and_every_check(turn: Turn) -> None:
    from loop_pipeline.definitions import defs

    graph = defs().resolve_asset_graph()
    asked_for = {dg.AssetKey("review_queue"), dg.AssetKey("judge_verdicts")}
    for key in graph.materializable_asset_keys - asked_for:
        event = turn.instance.get_latest_materialization_event(key)
        assert event is not None, key
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata, key
    days = turn.instance.get_materialized_partitions(dg.AssetKey("labeled_pairs"))
    assert days == {"2026-09-01", "2026-09-02", "2026-09-03"}
    pairs = read(turn.engine, LabeledPairRow)
    for day in days:
        key = dg.AssetKey("labeled_pairs")
        records = turn.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[day]), limit=1
        ).records
        assert records[0].asset_materialization is not None
        rows = records[0].asset_materialization.metadata["dagster/row_count"].value
        assert rows == (pairs["day"] == day).sum()


def test_the_report_is_there_and_whole(turn: Turn) -> None:
    folder = turn.settings.artifacts / "report"
    page = (folder / "report.html").read_text()
    numbers: dict[str, Any] = json.loads((folder / "numbers.json").read_text())
    assert numbers["traces"] == 2_400
    assert numbers["pairs"]["sft"] == len(read(turn.engine, LabeledPairRow, kind="sft"))
    assert numbers["costs"]["blended_ratio"] > numbers["costs"]["covered_ratio"]
    assert "</html>" in page


def test_a_second_turn_reuses_everything_and_changes_nothing(turn: Turn) -> None:
    if turn.engine.dialect.name != "sqlite":
        pytest.skip("a second turn takes a minute: SQLite's stands for both")
    before = {t: read(turn.engine, t) for t in (TraceRow, StudentAnswerRow, DatasetMemberRow)}
    policy, checkpoint = active_policy(turn.engine), newest_checkpoint(turn.engine)
    turn_loop(turn)
    for table, frame in before.items():
        assert read(turn.engine, table).equals(frame), table
    assert active_policy(turn.engine) == policy
    assert newest_checkpoint(turn.engine) == checkpoint
