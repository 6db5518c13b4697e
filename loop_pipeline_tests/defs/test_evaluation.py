"""The evaluation as Dagster runs it: what the UI shows, and what stops a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from loop_pipeline.defs.evaluation import EvaluationConfig, beats_champion, checkpoint_evaluation
from loop_pipeline.defs.resources import Loop
from loop_pipeline.store.checkpoints import newest_checkpoint
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.evaluation.arena import clever, fill, train
from loop_pipeline_tests.serving.stub import Stub

WRONG = {"good": 0.03, "poor": 0.3, "base": 0.2, "few-shot": 0.1}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    server = Stub()
    clever(server, WRONG)
    monkeypatch.setenv("LOOP_VLLM_URL", server.url)
    yield server
    server.stop()


def evaluate(*, again: bool = False) -> dg.ExecuteInProcessResult:
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    config = dg.RunConfig({"checkpoint_evaluation": EvaluationConfig(again=again)})
    return dg.materialize(
        [checkpoint_evaluation, beats_champion],
        resources={"loop": Loop()},
        run_config=config.to_config_dict() | quiet,
        raise_on_error=False,
    )


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node("checkpoint_evaluation")
    return {name: value.value for name, value in event.metadata.items()}


def test_the_ui_shows_the_verdict_and_a_rejected_one_stops_the_run(
    engine: Engine, stub: Stub, tmp_path: Path
) -> None:
    fill(engine, tmp_path / "set")
    train(engine, tmp_path, "poor", age=5)
    first = evaluate()
    [check] = first.get_asset_check_evaluations()
    assert not check.passed
    assert "not significantly better" in str(check.description)
    assert shown(first)["status"] == "rejected"

    train(engine, tmp_path, "good")
    second = evaluate()
    assert second.success
    [check] = second.get_asset_check_evaluations()
    assert check.passed
    metadata = shown(second)
    assert metadata["status"] == "approved"
    assert metadata["rival"].startswith("base:")
    assert metadata["gold_agreement"] > 0.9
    for figure in ("side_by_side", "reliability"):
        assert metadata[figure].startswith("![plot](data:image/png;base64,")
    assert "few-shot base" in metadata["contestants"]
    assert "| base " in metadata["differences"]
    assert "**Wins**" in metadata["gallery"]
    assert Path(metadata["gallery_file"]).read_text().startswith("<!doctype html>")
    assert "student-good" in metadata["decisions"]
    assert "MLflow" in str(metadata["not_in_mlflow"]), "training left no run to add to"
    assert sum(len(str(value)) for value in metadata.values()) < 400_000

    asked = len(stub.asked)
    again = evaluate()
    assert again.success
    assert shown(again)["status"] == "approved"
    assert len(stub.asked) == asked


def test_without_a_server_everything_stays_as_it_was(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loop_pipeline.serving import student_server as vllm

    monkeypatch.setattr(vllm, "START_S", 0)
    monkeypatch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{free_port()}")
    result = evaluate()
    assert "no checkpoint to evaluate" in _why(result)
    fill(engine, tmp_path / "set", 300)
    train(engine, tmp_path, "good")
    assert "nothing listens there" in _why(evaluate())
    newest = newest_checkpoint(engine)
    assert newest is not None
    assert (newest["status"], newest["metrics"]) == ("candidate", {})


def _why(result: dg.ExecuteInProcessResult) -> str:
    [failure] = [e for e in result.all_events if e.is_step_failure]
    data = failure.step_failure_data.user_failure_data
    return str(data.description if data else failure.step_failure_data.error)
