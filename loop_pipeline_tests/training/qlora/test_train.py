from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
from dagster_pipes import PipesContext
from mlflow.tracking import MlflowClient

from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.qlora import train as qlora
from loop_pipeline_tests.training.conftest import CONFIG, pipes_environment

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

COMMAND = [sys.executable, "-m", "loop_pipeline.training.qlora.train"]
Extras = Callable[..., dict[str, Any]]


@pytest.fixture
def extras(work: Path, tracking: Tracking, tmp_path: Path) -> Extras:
    """What Dagster passes; arguments replace fields of the recipe."""

    def make(**recipe: Any) -> dict[str, Any]:
        return {
            "config": {**CONFIG.model_dump(), **recipe},
            "dataset_dir": str(work / "set"),
            "base_dir": str(work / "base"),
            "output_dir": str(tmp_path / "out"),
            "mlflow": tracking.model_dump(),
        }

    return make


def environment(extras: dict[str, Any], tmp_path: Path, **more: str) -> dict[str, str]:
    return {**os.environ, **pipes_environment(extras, tmp_path / "messages"), **more}


def messages(tmp_path: Path, method: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (tmp_path / "messages").read_text().splitlines())
    return [line["params"] for line in lines if line["method"] == method]


def start_and_await_checkpoint(given: dict[str, Any], tmp_path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(COMMAND, env=environment(given, tmp_path), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list((tmp_path / "out").glob("checkpoint-*/complete.json")):
        assert process.poll() is None, "ended before it had written a checkpoint"
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.02)
    return process


def complete(out: Path) -> list[int]:
    return sorted(int(path.parent.name[11:]) for path in out.glob("checkpoint-*/complete.json"))


def test_a_killed_training_goes_on_where_it_was(extras: Extras, tracking: Tracking, tmp_path: Path):
    given, out = extras(num_train_epochs=60.0), tmp_path / "out"
    process = start_and_await_checkpoint(given, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    last = complete(out)[-1]
    run_id = (out / "mlflow_run_id").read_text()
    half_written = out / "checkpoint-999"
    half_written.mkdir()
    (half_written / "adapter_model.safetensors").write_bytes(b"half")

    lines: list[str] = []
    given["config"]["max_minutes"] = 0.001  # one step more is enough
    [meta] = qlora.train_all(given, lines.append)
    assert "checkpoint-999 was not written to its end: removed" in lines
    assert meta["resumed_at_step"] == last
    assert meta["steps"] == last + 1
    assert meta["ended_by"] == "clock"
    assert meta["mlflow_run_id"] == run_id
    run = MlflowClient(tracking.tracking_uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["num_train_epochs"] == "60.0"


def test_a_full_disk_costs_one_line_and_one_checkpoint(extras: Extras, tmp_path: Path):
    """A limit on the size of files, set while it runs, stands in for the full disk."""
    given, out = extras(num_train_epochs=60.0), tmp_path / "out"
    process = start_and_await_checkpoint(given, tmp_path)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    assert process.wait(120) == 1
    [said] = [m["message"] for m in messages(tmp_path, "log") if m["level"] == "ERROR"]
    whole = complete(out)
    assert "could not be written" in said
    assert "MB are free): make room and run again" in said
    assert said.endswith(f"it goes on from checkpoint-{whole[-1]}")

    lines: list[str] = []
    given["config"]["max_minutes"] = 0.001
    [meta] = qlora.train_all(given, lines.append)
    assert meta["resumed_at_step"] == whole[-1]
    assert (meta["steps"], meta["mlflow_missing"]) == (whole[-1] + 1, "")


def test_two_processes_train_one_adapter(extras: Extras, tmp_path: Path):
    """Data-parallel copies over gloo. The same rows a step: half of them in each."""
    given = extras(num_train_epochs=2.0, per_device_train_batch_size=4)
    several = environment(given, tmp_path, OMP_NUM_THREADS="1")
    subprocess.run([*COMMAND, "--processes", "2"], env=several, check=True, timeout=280)
    [report] = messages(tmp_path, "report_asset_materialization")
    meta = json.loads((tmp_path / "out" / "adapter" / "meta.json").read_text())
    assert report["data_version"] == meta["adapter_sha256"]
    assert meta["steps"] == 2 * 64 / 8
    assert meta["train_loss_last"] < 0.5 * meta["train_loss_first"]
    assert meta["model_version"] is not None


def test_a_finished_adapter_is_reported_through_pipes(
    extras: Extras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = extras(num_train_epochs=1.0)
    [trained] = qlora.train_all(given, lambda _: None)
    monkeypatch.setattr(PipesContext, "_instance", None)  # one a process, as a rule
    for name, value in pipes_environment(given, tmp_path / "messages").items():
        monkeypatch.setenv(name, value)
    qlora.main()
    [report] = messages(tmp_path, "report_asset_materialization")
    assert report["data_version"] == trained["adapter_sha256"]
    assert report["metadata"]["steps"]["raw_value"] == trained["steps"]
    assert report["metadata"]["truncated_rows"]["raw_value"] == 0


def test_a_fault_is_one_line_in_dagsters_log(
    extras: Extras, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = extras() | {"base_dir": str(tmp_path / "nowhere")}
    monkeypatch.setattr(PipesContext, "_instance", None)  # one a process, as a rule
    for name, value in pipes_environment(given, tmp_path / "messages").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="is no finished base model"):
        qlora.main()
    [said] = [m for m in messages(tmp_path, "log") if m["level"] == "ERROR"]
    words = "nowhere is no finished base model: config.json is missing; make it"
    assert said["message"].endswith(words)
