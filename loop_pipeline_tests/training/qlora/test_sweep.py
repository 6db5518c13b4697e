from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")
from mlflow.tracking import MlflowClient

from loop_pipeline.hashing import file_sha256
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.qlora.run import Job
from loop_pipeline.training.qlora.sweep import run_sweep
from loop_pipeline_tests.training.conftest import colour_rows, write_set

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

GRID = {
    "num_train_epochs": 1.0,
    "sweep_trials": 2,
    "sweep_learning_rates": [1e-5, 1e-2],
    "sweep_lora_r": [8],
}


def test_the_best_trial_is_kept_and_registered(job: Callable[..., Job], tracking: Tracking):
    lines: list[str] = []
    made = replace(job(**GRID), register=True, log=lines.append)
    meta = run_sweep(made)
    assert meta["config"]["learning_rate"] == 1e-2
    assert (meta["config"]["lora_r"], meta["config"]["lora_alpha"]) == (8, 16)
    trials = sorted(meta["trials"], key=lambda trial: trial["validation_loss"])
    assert [trial["learning_rate"] for trial in trials] == [1e-2, 1e-5]
    assert trials[0]["validation_loss"] == meta["validation_loss"]
    assert meta["adapter_dir"] == str(made.run_dir / "adapter")
    weights = made.run_dir / "adapter" / "adapter_model.safetensors"
    assert file_sha256(weights) == meta["adapter_sha256"]
    assert any(line.startswith("trial 2/2: learning_rate") for line in lines)

    client = MlflowClient(tracking.tracking_uri)
    version = client.get_model_version(tracking.registered_model, meta["model_version"])
    assert version.run_id == meta["mlflow_run_id"]
    parents = {
        client.get_run(trial["mlflow_run_id"]).data.tags["mlflow.parentRunId"] for trial in trials
    }
    assert parents == {meta["mlflow_run_id"]}
    assert run_sweep(made) == meta  # nothing is trained twice


def test_trials_without_validation_rows_cannot_be_compared(job: Callable[..., Job], tmp_path: Path):
    folder = write_set(tmp_path / "set", colour_rows(0, 16), [])
    made = replace(job(**GRID), train_file=folder / "train.jsonl")
    with pytest.raises(ValueError, match=r"set/validation\.jsonl is empty"):
        run_sweep(made)
