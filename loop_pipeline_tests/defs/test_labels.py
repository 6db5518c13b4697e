"""The label half of the loop by its jobs, on simulated traffic whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from loop_pipeline.demo.simulated_traffic import answer_reviews, simulate
from loop_pipeline.demo.turn import Turn
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import follow, read
from loop_pipeline.store.tables import (
    LabeledPairRow,
    QualityScoreRow,
    ReviewItemRow,
    SupersededPairRow,
    TraceSignalRow,
)
from loop_pipeline.store.training_data import newest_quality_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turn]:
    """2,500 answers of five days, a fifth of them reviewed; one more reviewer throws coins."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOP_HOME", str(home))
        patch.setenv("LOOP_REVIEW_RATE", "0.2")
        made = Turn(load_settings(), say=lambda _: None)
        simulate(home / "traffic.jsonl", traces=2500, days=5)
        made.import_traces(home / "traffic.jsonl")
        made.run("describe_traces", days=True)
        made.run("draw_reviews")
        drawn = read(made.engine, ReviewItemRow, status="open")["prompt_id"].tolist()
        reviews = answer_reviews(home / "truth.jsonl", drawn)
        coin = [reviews[i] | {"actor": "coin", "value": float(i % 4 < 2)} for i in range(0, 240, 2)]
        _import(made, home / "reviews.jsonl", reviews + coin)
        made.run("refresh_quality")
        made.run("score_traces", days=True)
        yield made
        made.close()


def _import(turn: Turn, path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    turn.import_traces(path)


def _truth(turn: Turn) -> pd.DataFrame:
    return pd.read_json(turn.settings.home / "truth.jsonl", lines=True).set_index("prompt_id")


def _metadata(turn: Turn, asset: str) -> dict[str, Any]:
    event = turn.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_every_trace_has_signals_a_chance_of_review_and_a_score(turn: Turn) -> None:
    signals, items = read(turn.engine, TraceSignalRow), read(turn.engine, ReviewItemRow)
    scores = read(turn.engine, QualityScoreRow)
    assert len(signals) == len(items) == len(scores) == 2500
    assert items["p_review"].between(0.2, 0.6 + 1e-9).all()
    assert scores["score"].notna().all()
    assert scores.loc[scores["origin"] == "model", "because"].map(len).min() >= 2


def test_what_is_learned_is_right_and_the_promise_is_kept_on_the_truth(turn: Turn) -> None:
    truth, pairs = _truth(turn), read(turn.engine, LabeledPairRow, kind="sft")
    by_score = pairs[pairs["reason"].str.contains("score")].join(truth, on="prompt_id")
    assert len(by_score) > 800
    assert by_score["right"].mean() >= 0.95
    # Where wording cannot tell, a made-up text may pass; it counts as wrong in the line above.
    assert by_score["hallucinated"].mean() <= 0.005


def test_dagster_and_mlflow_show_what_the_score_is_made_of(turn: Turn) -> None:
    shown = _metadata(turn, "quality_model")
    pictures = ["weights", "reliability", "mean_quality", "threshold classify"]
    assert all("data:image/png" in shown[name] for name in pictures)
    assert 0 <= shown["ece"] <= 0.1
    client = MlflowClient(turn.settings.tracking_uri)
    run = client.get_run(shown["mlflow_run"])
    stored = newest_quality_model(turn.engine)
    assert stored is not None
    assert run.data.tags["version"] == stored["version"] == shown["version"]
    assert run.data.metrics["ece"] == pytest.approx(shown["ece"])
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"reliability.png", "weights.png", "model.json"} <= files


def test_a_reviewer_who_throws_coins_is_named(turn: Turn) -> None:
    key = dg.AssetCheckKey(dg.AssetKey("reviewers"), "reviewers_can_be_relied_on")
    [record] = turn.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    evaluation = record.event.dagster_event.event_specific_data  # pyright: ignore[reportOptionalMemberAccess]
    assert not evaluation.passed  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    said = str(evaluation.description)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    assert said.startswith("coin answers like a coin")
    assert "reviewer-1" not in said


def test_late_feedback_supersedes_its_own_pairs_only(turn: Turn) -> None:
    pairs = read(turn.engine, LabeledPairRow, kind="sft")
    victim = pairs[pairs["reason"].str.startswith("accepted")].iloc[0]
    late = {"prompt_id": victim["prompt_id"], "kind": "rejected", "actor": "x"}
    _import(turn, turn.settings.home / "late.jsonl", [late | {"ts": "2026-10-30T00:00:00+00:00"}])
    before = set(read(turn.engine, LabeledPairRow)["pair_id"])
    turn.run("label_traces", days=True)
    after = read(turn.engine, LabeledPairRow)
    gone = read(turn.engine, SupersededPairRow)
    assert set(gone["prompt_id"]) == {victim["prompt_id"]}
    assert before - set(after["pair_id"]) == set(gone["pair_id"])
    tables = follow(turn.engine, victim["prompt_id"])
    assert [row["kind"] for row in tables["labeled_pairs"]] == ["kto_neg"]
    assert tables["trace_signals"][0]["action"] == "rejected"


def test_without_mlflow_the_score_is_there_and_says_what_is_missing(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    turn.run("refresh_quality")
    said = _metadata(turn, "quality_model")["mlflow"]
    assert "not recorded: MLflow at http://127.0.0.1:9" in said
    assert newest_quality_model(turn.engine) is not None
