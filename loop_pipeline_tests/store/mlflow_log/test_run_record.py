from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient

from loop_pipeline.store.mlflow_log.run_record import RunRecord, recorded_run
from loop_pipeline.store.tracking import Tracking
from loop_pipeline_tests.conftest import free_port
from loop_pipeline_tests.shared import ends

NOBODY = Tracking(tracking_uri="http://127.0.0.1:9")


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    return Tracking(tracking_uri=uri, tags={"dagster_run_id": "r1"})


def write(record: RunRecord, folder: Path) -> None:
    rows = [{"prompt_id": "p", "prompt": [{"content": "q"}], "chosen": [{"content": "a"}]}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record.params({"lora_r": 8})
    record.dataset(folder / "rows.jsonl", "0123456789abcdef")
    record.artifact(folder / "rows.jsonl", "rows")
    for step in range(3):
        record.metrics({"loss": 3.0 - step, "lr": 0.1}, step)


def check(tracking: Tracking, run_id: str, status: str) -> None:
    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(run_id)
    assert run.info.status == status
    assert run.data.params == {"lora_r": "8"}
    assert run.data.tags["dagster_run_id"] == "r1"
    assert run.inputs is not None
    assert [i.dataset.digest for i in run.inputs.dataset_inputs] == ["0123456789abcdef"]
    assert [f.path for f in client.list_artifacts(run_id, "rows")] == ["rows/rows.jsonl"]
    points = [(m.step, m.value) for m in client.get_metric_history(run_id, "loss")]
    assert sorted(points) == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_a_record_arrives_whole_and_once(tracking: Tracking, tmp_path: Path):
    with recorded_run(tracking, tmp_path, "sft", {"stage": "sft"}) as record:
        write(record, tmp_path)
        assert record.run_id is None
        assert record.deliver()
        (tmp_path / "mlflow_sent").unlink()  # killed before it could note what was sent
        record.status("FINISHED")
        assert record.deliver()
    assert record.missing() == ""
    assert record.run_id is not None
    check(tracking, record.run_id, "FINISHED")


def test_nothing_is_lost_while_the_server_is_down(tracking: Tracking, tmp_path: Path):
    record = RunRecord(NOBODY, tmp_path)
    record.begin("sft", {"dagster_run_id": "r1"})
    write(record, tmp_path)
    with ends(time.monotonic):
        for _ in range(50):
            record.deliver_if_due()
        assert not record.deliver()
    assert record.run_id is None
    assert record.missing().startswith("1 x run, 1 x params, 1 x dataset, 1 x artifact, 3 x metr")
    assert "http://127.0.0.1:9" in record.missing()
    assert record.register(tmp_path, "sha") is None
    back = RunRecord(tracking, tmp_path)  # another process, later
    back.begin("sft", {})
    back.status("FINISHED")
    assert back.deliver()
    assert back.run_id is not None
    check(tracking, back.run_id, "FINISHED")


def test_a_failed_run_is_marked_and_half_a_line_is_left_out(tracking: Tracking, tmp_path: Path):
    with pytest.raises(KeyError), recorded_run(tracking, tmp_path, "sft", {}) as record:
        write(record, tmp_path)
        with (tmp_path / "mlflow.jsonl").open("a") as file:
            file.write('{"kind": "metr\n')
        raise KeyError("a fault")
    assert record.run_id is not None
    check(tracking, record.run_id, "FAILED")


@pytest.mark.parametrize("damage", ["", "half", "7", "99999999", "-1"])
def test_a_damaged_count_of_what_was_sent_sends_all_again(
    tracking: Tracking, tmp_path: Path, damage: str
):
    record = RunRecord(tracking, tmp_path)
    record.begin("sft", {})
    write(record, tmp_path)
    assert record.deliver()
    run_id = record.run_id
    (tmp_path / "mlflow_sent").write_text(damage)
    record.status("FINISHED")
    assert record.deliver()
    assert record.missing() == ""
    assert record.run_id == run_id
    check(tracking, str(run_id), "FINISHED")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0123"])
def test_a_damaged_run_id_makes_a_new_run_with_everything_in_it(
    tracking: Tracking, tmp_path: Path, damage: bytes
):
    record = RunRecord(tracking, tmp_path)
    record.begin("sft", {})
    write(record, tmp_path)
    assert record.deliver()
    first = record.run_id
    (tmp_path / "mlflow_run_id").write_bytes(damage)
    record.status("FINISHED")
    assert record.deliver()
    assert record.run_id not in {None, first}
    check(tracking, str(record.run_id), "FINISHED")


def test_what_follows_half_a_line_is_kept_and_a_first_half_line_opens_no_run(
    tracking: Tracking, tmp_path: Path
):
    lines = tmp_path / "mlflow.jsonl"
    lines.write_text('{"kind": "ru')  # killed as it wrote its very first line
    record = RunRecord(tracking, tmp_path)
    record.begin("sft", {})
    assert not record.resumed
    write(record, tmp_path)
    with lines.open("a") as file:
        file.write('{"kind": "metr')
    record.status("FINISHED")
    assert record.deliver()
    assert record.missing() == ""
    check(tracking, str(record.run_id), "FINISHED")


def test_a_nested_run_brings_its_parent(tracking: Tracking, tmp_path: Path):
    RunRecord(NOBODY, tmp_path).begin("sweep", {})
    trial = RunRecord(tracking, tmp_path / "trial")
    trial.begin("sft", {}, parent=tmp_path)
    assert trial.deliver()
    parent = RunRecord(tracking, tmp_path).run_id
    assert trial.run_id is not None
    run = MlflowClient(tracking.tracking_uri).get_run(trial.run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen[bytes]]]]:
    """Starts an MLflow server on the same port and files each time it is called."""
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[str, subprocess.Popen[bytes]]:
        words = f"--host 127.0.0.1 --port {port} --workers 1 --serve-artifacts"
        stores = ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
        stores += ["--artifacts-destination", str(tmp_path / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *words.split(), *stores]
        log = (tmp_path / "server.log").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "server.log").read_text()[-800:]
            try:
                if requests.get(f"{url}/health", timeout=2).ok:
                    return url, process
            except requests.RequestException:
                time.sleep(0.3)
        raise TimeoutError("the MLflow server did not start")

    yield start
    for process in started:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server with its workers."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_has_everything(
    server: Callable[[], tuple[str, subprocess.Popen[bytes]]], tmp_path: Path
):
    url, process = server()
    tracking = Tracking(tracking_uri=url, tags={"dagster_run_id": "r1"})
    record = RunRecord(tracking, tmp_path / "run")
    record.begin("sft", {})
    write(record, tmp_path)
    assert record.deliver()
    stop(process)
    record.metrics({"accuracy": 0.5}, 3)
    record.status("FINISHED")
    assert not record.deliver()
    assert record.missing().startswith("1 x metrics, 1 x status")
    server()
    assert record.deliver()
    assert record.run_id is not None
    check(tracking, record.run_id, "FINISHED")
    assert MlflowClient(url).get_run(record.run_id).data.metrics["accuracy"] == 0.5
