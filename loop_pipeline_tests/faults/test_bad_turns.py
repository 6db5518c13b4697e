"""A turn in which something is missing or broken: it says so, and nothing in force changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.demo.turn import Turn, TurnFailed
from loop_pipeline.serving import student_server as vllm
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import count, read, upsert
from loop_pipeline.store.policies import activate_policy, active_policy
from loop_pipeline.store.tables import CheckpointRow, DatasetRow, DeploymentRow, QuarantineRow
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.serving.examples import write_adapter
from loop_pipeline_tests.serving.stub import Stub

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.stop()


@pytest.fixture
def turn(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turn]:
    monkeypatch.setenv("LOOP_VLLM_URL", f"http://127.0.0.1:{free_port()}")
    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    made = Turn(settings, say=lambda _: None)
    yield made
    made.close()


def _approve(engine: Engine, folder: Path, mark: str = "first") -> None:
    from datetime import UTC, datetime

    adapter_dir = folder / mark
    name = write_adapter(adapter_dir, base="b", mark=mark)
    now = datetime.now(UTC)
    with engine.begin() as connection:
        upsert(
            connection,
            DatasetRow,
            [
                {
                    "dataset_id": "d",
                    "created_at": now,
                    "folder": str(adapter_dir),
                    "counts": {},
                    "validated_pairs": 1,
                }
            ],
        )
        upsert(
            connection,
            CheckpointRow,
            [
                {
                    "checkpoint_id": name,
                    "created_at": now,
                    "dataset_id": "d",
                    "base_dir": "b",
                    "adapter_dir": str(adapter_dir),
                    "adapter_sha256": name,
                    "mlflow_run_id": None,
                    "model_version": "1",
                    "metrics": {},
                    "status": "approved",
                    "reason": "test",
                }
            ],
        )


def _reviewed(trace: Make, n: int) -> list[dict[str, Any]]:
    good = {"kind": "review", "value": 1, "actor": "ann", "ts": "2026-09-05T00:00:00Z"}
    return [trace(i, feedback=[good]) for i in range(n)]


def test_too_little_data_says_how_much_is_missing_and_the_policy_stays(
    turn: Turn, engine: Engine, trace: Make, jsonl: Write
) -> None:
    with engine.begin() as connection:
        activate_policy(connection, sha256="old", bundle="{}", checkpoint_id=None)
    turn.import_traces(jsonl(*_reviewed(trace, 60), "{a bad line"))
    turn.run("label_traces", days=True)
    with pytest.raises(TurnFailed, match=r"training pairs, 200 are the least: \d+ more") as failure:
        turn.run("retrain")
    assert "step training_set" in str(failure.value)
    policy = active_policy(engine)
    assert policy is not None
    assert policy["sha256"] == "old"
    assert count(engine, CheckpointRow) == 0
    assert count(engine, QuarantineRow) == 1


def test_a_set_with_a_single_answer_is_not_trained_on(
    turn: Turn, engine: Engine, trace: Make, jsonl: Write
) -> None:
    turn.import_traces(jsonl(*_reviewed(trace, 340)))
    turn.run("label_traces", days=True)
    with pytest.raises(TurnFailed, match="have the same answer, 'delivery': nothing to learn"):
        turn.run("retrain")
    assert count(engine, DatasetRow) == count(engine, CheckpointRow) == 0
    assert not list(turn.settings.artifacts.glob("datasets/*"))


def test_an_empty_store_says_what_to_do(turn: Turn, engine: Engine) -> None:
    with pytest.raises(TurnFailed, match="import"):
        turn.run("regroup")
    with pytest.raises(TurnFailed, match="200 are the least"):
        turn.run("make_base")
    assert active_policy(engine) is None


def test_without_a_server_the_deployment_fails_with_its_last_words_and_changes_nothing(
    turn: Turn,
    engine: Engine,
    trace: Make,
    jsonl: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vllm, "START_S", 0)
    turn.import_traces(jsonl(*_reviewed(trace, 60)))
    _approve(engine, tmp_path)
    turn.settings.vllm_log.write_text("starting\nRuntimeError: out of memory on purpose\n")
    with pytest.raises(TurnFailed, match="out of memory on purpose") as failure:
        turn.run("deploy")
    assert turn.settings.vllm_url in str(failure.value)
    assert count(engine, DeploymentRow) == 0


def test_a_server_that_refuses_the_adapter_keeps_the_one_it_has(
    turn: Turn,
    engine: Engine,
    trace: Make,
    jsonl: Write,
    tmp_path: Path,
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOP_VLLM_URL", stub.url)
    turn.import_traces(jsonl(*_reviewed(trace, 60)))
    _approve(engine, tmp_path)
    turn.run("deploy")
    before, adapters = read(engine, DeploymentRow), dict(stub.adapters)
    assert len(adapters) == 1
    _approve(engine, tmp_path, mark="second")
    stub.fail = (500, "no room for this adapter")
    with pytest.raises(TurnFailed, match="no room for this adapter"):
        turn.run("deploy")
    assert stub.adapters == adapters
    assert read(engine, DeploymentRow).equals(before)


def test_a_replica_out_of_memory_means_that_nothing_new_is_declared_serving(
    turn: Turn,
    engine: Engine,
    trace: Make,
    jsonl: Write,
    tmp_path: Path,
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Stub()
    monkeypatch.setenv("LOOP_VLLM_URL", f"{stub.url},{other.url}")
    turn.import_traces(jsonl(*_reviewed(trace, 60)))
    _approve(engine, tmp_path)
    turn.run("deploy")
    before, adapters = read(engine, DeploymentRow), dict(other.adapters)
    assert set(before["server_url"]) == {f"{stub.url},{other.url}"}
    _approve(engine, tmp_path, mark="second")
    other.fail = (500, "EngineDeadError: out of memory")
    with pytest.raises(TurnFailed, match=r"replica 2 of 2.*out of memory") as failure:
        turn.run("deploy")
    assert other.url in str(failure.value)
    assert other.adapters == adapters
    assert set(adapters) < set(stub.adapters), "the old one stays, the new one is named nowhere"
    assert read(engine, DeploymentRow).equals(before)
    other.fail = None
    turn.run("deploy")
    assert other.adapters == stub.adapters
    assert len(read(engine, DeploymentRow)) > len(before)
    other.stop()


def test_nothing_approved_means_nothing_deployed(
    turn: Turn, engine: Engine, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOP_VLLM_URL", stub.url)
    with pytest.raises(TurnFailed, match="no approved checkpoint"):
        turn.run("deploy")
    assert stub.adapters == {}
    assert count(engine, DeploymentRow) == 0
