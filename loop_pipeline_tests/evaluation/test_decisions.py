"""Verdicts on real stores: a stub for the server, a real MLflow, and faults at every step."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.artifacts import evaluation_folder
from loop_pipeline.evaluation import decisions, unspent_gold
from loop_pipeline.evaluation.decisions import UNTOLD, decide_waiting, deliver, last_decisions
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import newest_checkpoint, set_checkpoints, spent_gold
from loop_pipeline.store.database import insert_new, open_store, read
from loop_pipeline.store.tables import CheckpointRow, RolloutRow, StudentAnswerRow
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.evaluation.arena import bench, clever, fill, train
from loop_pipeline_tests.serving.stub import Stub

WRONG = {"good": 0.03, "best": 0.02, "poor": 0.3, "base": 0.2, "few-shot": 0.1}


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    clever(server, WRONG)
    yield server
    server.stop()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A store with traffic."""
    monkeypatch.setenv("LOOP_HOME", str(tmp_path / "home"))
    engine = open_store(f"sqlite:///{tmp_path / 'home' / 'loop.db'}")
    fill(engine, tmp_path / "set")
    yield engine
    engine.dispose()


def statuses(engine: Engine) -> dict[str, str]:
    rows = read(engine, CheckpointRow, columns=["checkpoint_id", "status"])
    return {key.rstrip("0"): status for key, status in rows.to_numpy()}


def metrics(engine: Engine, key: str) -> dict[str, Any]:
    return read(engine, CheckpointRow, checkpoint_id=key)["metrics"].iloc[0]


def test_several_candidates_are_judged_at_once_and_answers_are_kept(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    best = train(store, tmp_path, "best", age=3)
    good = train(store, tmp_path, "good", age=2)
    train(store, tmp_path, "poor", age=1)
    judged, failed = decide_waiting(bench(store, stub))
    assert (len(judged), failed) == (3, {})
    assert statuses(store) == {"best": "approved", "good": "retired", "poor": "rejected"}
    assert [row["checkpoint_id"][:4] for row in last_decisions(store)] == ["best", "good", "poor"]
    found = metrics(store, best)
    assert list(found["contestants"]) == ["candidate", "few-shot base", "base"]
    assert found["rival"].startswith("base:")
    assert (
        found["contestants"]["few-shot base"]["agreement"]
        > found["contestants"]["base"]["agreement"]
    )
    names = {path.name for path in evaluation_folder(bench(store, stub).settings, good).iterdir()}
    assert {"metrics.json", "gallery.html", "gallery.jsonl", "evaluation.md"} <= names
    asked, kept = len(stub.asked), read(store, StudentAnswerRow)
    assert decide_waiting(bench(store, stub)) == ([], {})
    assert len(stub.asked) == asked, "everything was answered before"
    assert read(store, StudentAnswerRow).equals(kept)
    # The next one meets the champion; base and examples are not asked again.
    train(store, tmp_path, "poor2")
    decide_waiting(bench(store, stub))
    assert statuses(store)["poor2"] == "rejected"
    assert metrics(store, "poor2".ljust(64, "0"))["rival"] == best
    new = {body["model"] for path, body in stub.asked[asked:] if path.endswith("completions")}
    assert new == {"student-poor20000000"}


def test_a_server_that_dies_leaves_the_candidate_waiting_and_its_answers_stored(
    store: Engine, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loop_pipeline.evaluation import contestants

    monkeypatch.setattr(contestants, "BLOCK", 50)
    train(store, tmp_path, "good")
    behave = stub.answer
    assert behave is not None

    def dies(body: dict[str, Any]) -> tuple[str, float]:
        if len(stub.asked) > 120:
            stub.fail = (500, "out of memory on purpose")
        return behave(body)

    stub.answer = dies
    judged, failed = decide_waiting(bench(store, stub))
    assert judged == []
    assert "out of memory on purpose" in failed["good".ljust(64, "0")]
    assert statuses(store) == {"good": "candidate"}
    assert metrics(store, "good".ljust(64, "0")) == {}
    stored = len(read(store, StudentAnswerRow))
    assert 100 <= stored < 180
    stub.fail, stub.answer = None, behave
    asked = len(stub.asked)
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"good": "approved"}
    answered = len(read(store, StudentAnswerRow, checkpoint_id="good".ljust(64, "0")))
    own = [b for p, b in stub.asked[asked:] if b.get("model") == "student-good00000000"]
    assert len(own) == answered - stored


def test_a_decision_records_the_gold_it_rests_on(
    store: Engine, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later one keeps none of it back; what was kept back is what may be quoted."""
    monkeypatch.setattr(unspent_gold, "KEPT_FROM", 20)
    first = train(store, tmp_path, "good", age=2)
    judging = bench(store, stub)
    gold = judging.held_out[judging.held_out["split"] == "gold"]
    kept = unspent_gold.kept_back(gold, set())
    assert 0 < len(kept) < len(gold) / 2
    decide_waiting(judging)
    assert spent_gold(store) == set(gold["prompt_id"]) - kept
    assert metrics(store, first)["gate"]["n"] == len(gold) - len(kept)
    assert not unspent_gold.kept_back(gold, spent_gold(store)) - kept


def test_one_adapter_that_is_refused_holds_nobody_up(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    broken = train(store, tmp_path, "broken", age=2)
    train(store, tmp_path, "good", age=1)
    judged, failed = decide_waiting(bench(store, stub))
    assert judged == ["good".ljust(64, "0")], failed
    assert "max_lora_rank" in failed[broken]
    # An older one that was not judged has nothing to win any more.
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"broken": "retired", "good": "approved"}


@pytest.mark.parametrize("step", ["write_files", "pick", "set_checkpoints"])
def test_whatever_breaks_before_the_decision_nothing_is_approved(
    store: Engine, stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    key = train(store, tmp_path, "good")

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("No space left on device")

    broken = bench(store, stub)
    with monkeypatch.context() as patch:
        if step == "write_files":
            broken = replace(broken, write_files=full)
        else:
            patch.setattr(decisions, step, full)
        with pytest.raises(OSError, match="No space left"):
            decide_waiting(broken)
    assert statuses(store) == {"good": "candidate"}
    assert metrics(store, key) == {}
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"good": "approved"}


def test_a_rejected_one_is_judged_again_when_asked_to(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    behave = stub.answer

    def short(body: dict[str, Any]) -> tuple[str, float]:
        stub.fail = (400, "maximum context length is 20")
        return "", 0.0

    stub.answer = short
    train(store, tmp_path, "good")
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"good": "rejected"}
    assert metrics(store, "good".ljust(64, "0"))["too_long"] > 0
    stub.answer, stub.fail = behave, None  # served with a longer context now
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"good": "rejected"}, "a verdict stands"
    decide_waiting(bench(store, stub, again=True))
    assert statuses(store) == {"good": "approved"}


def test_a_champion_on_another_base_is_met_with_the_answers_it_gave(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    champion = train(store, tmp_path, "good", age=9)
    decide_waiting(bench(store, stub))
    set_checkpoints(store, {champion: {"base_dir": "org/older-base"}})
    train(store, tmp_path, "best")
    asked = len(stub.asked)
    decide_waiting(bench(store, stub))
    assert statuses(store) == {"good": "approved", "best": "approved"}
    assert metrics(store, "best".ljust(64, "0"))["rival"] == champion
    assert not [b for _, b in stub.asked[asked:] if b.get("model") == "student-good00000000"]


def was_champion(engine: Engine, key: str, day: int) -> None:
    """A line of the history of policies."""
    row = {
        "event_id": key[:8],
        "at": dt.datetime(2026, 10, day, tzinfo=dt.UTC),
        "action": "promoted",
        "stage": "100%",
        "weight": 0.0,
        "policy_sha256": key,
        "champion_id": key,
        "canary_id": None,
        "recalibration": 1,
        "evidence": {},
        "actor": "test",
        "reason": "because",
    }
    with engine.begin() as connection:
        insert_new(connection, RolloutRow, [row])


def test_a_candidate_is_held_to_the_best_champion_there_was(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    star = train(store, tmp_path, "star", age=9)
    decide_waiting(bench(store, stub))
    was_champion(store, star, day=1)
    good = train(store, tmp_path, "good", age=5)
    decide_waiting(bench(store, stub))
    set_checkpoints(store, {good: {"status": "approved"}})  # it slipped through once
    was_champion(store, good, day=2)
    asked = len(stub.asked)
    same = train(store, tmp_path, "good2")
    assert decide_waiting(bench(store, stub))[1] == {}, "all could be asked"
    assert statuses(store)["good2"] == "rejected"
    found = metrics(store, same)
    assert (found["rival"], found["anchor"]) == (good, star)
    assert found["gate"]["difference"] == 0
    [against] = [r for r in found["gate"]["against"] if r.startswith("Agreement is")]
    assert "the best champion so far's 100.0%" in against
    new = {body["model"] for path, body in stub.asked[asked:] if path.endswith("completions")}
    assert new == {"student-good20000000"}, "who was champion before is not asked again"


def test_a_training_that_was_cut_short_is_the_first_thing_a_verdict_says(
    store: Engine, stub: Stub, tmp_path: Path
) -> None:
    said = "The training was cut short by max_minutes."
    key = train(store, tmp_path, "good", metrics={"training_cut_short": said, "ended_by": "clock"})
    decide_waiting(bench(store, stub))
    assert read(store, CheckpointRow, checkpoint_id=key)["reason"].iloc[0].startswith(said)
    assert metrics(store, key)["ended_by"] == "clock"
    assert metrics(store, key)["training_cut_short"] == said


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of MLflow's own, made once: its first opening takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def trained_in_mlflow(settings: LoopSettings, folder: Path, key: str) -> dict[str, Any]:
    """A run with a registered adapter, as training leaves it."""
    from mlflow.tracking import MlflowClient

    from loop_pipeline.store.tracking import Tracking, register_adapter

    client = MlflowClient(settings.tracking_uri)
    experiment = client.create_experiment("loop", (folder / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "meta.json").write_text("{}")
    tracking = Tracking.model_validate(settings.mlflow_target())
    version = register_adapter(tracking, run, folder / "adapter", key)
    return {"mlflow_run_id": run, "model_version": version}


def test_mlflow_is_told_late_but_told(
    store: Engine,
    stub: Stub,
    tmp_path: Path,
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("LOOP_MLFLOW_TRACKING_URI", mlflow_uri)
    settings = bench(store, stub).settings
    good = "good".ljust(64, "0")
    made = trained_in_mlflow(settings, tmp_path / "good-run", good)
    train(store, tmp_path, "good", age=2, **made)
    poor = train(store, tmp_path, "poor", age=1)
    decide_waiting(bench(store, stub))
    assert metrics(store, good)["mlflow"] == UNTOLD

    down = f"http://loop:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("LOOP_MLFLOW_TRACKING_URI", down)
    missing = deliver(store, bench(store, stub).settings)
    assert statuses(store) == {"good": "approved", "poor": "rejected"}, "the verdicts stand"
    assert "MLflow at http://***@127.0.0.1" in missing[good]
    assert "secret" not in json.dumps(missing)
    assert metrics(store, good)["mlflow"] == missing[good]

    monkeypatch.setenv("LOOP_MLFLOW_TRACKING_URI", mlflow_uri)
    client = MlflowClient(mlflow_uri)
    version = client.get_model_version("loop-student", made["model_version"])
    assert version.tags["status"] == "candidate"
    missing = deliver(store, settings)
    assert missing == {poor: "its training left no MLflow run and model version to add to"}
    assert metrics(store, good)["mlflow"] == ""
    run = client.get_run(made["mlflow_run_id"])
    found = metrics(store, good)
    assert run.data.metrics["gold_agreement"] == found["agreement"]
    assert run.data.metrics["route/gold_agreement"] == found["tasks"]["route"]["agreement"]
    assert run.data.metrics["against base/agreement_low"] == pytest.approx(
        found["differences"]["base"]["agreement"]["low"]
    )
    files = {f.path for f in client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"evaluation/gallery.html", "evaluation/gallery.jsonl"} <= files
    champion = client.get_model_version_by_alias("loop-student", "champion")
    assert str(champion.version) == made["model_version"]
    assert champion.tags["status"] == "approved"
    newest = newest_checkpoint(store, "approved")
    assert newest is not None
    assert newest["checkpoint_id"] == good
