"""No process that the loop starts, and nothing that it prints, holds a secret it does not need."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from loop_pipeline.child_environment import SERVER_SECRETS, TRAINING_SECRETS, child_environment
from loop_pipeline.defs.resources import TrainingProcess
from loop_pipeline.labels.hallucination.tiers import EncoderError, ask_encoder
from loop_pipeline.serving.supervisor_process import start_supervisor, stop
from loop_pipeline_tests.conftest import free_port

ROOT = Path(__file__).parents[1]
MARK = "hunter2-not-to-be-seen"
SECRETS = {
    "LOOP_DATABASE_URL": f"postgresql+psycopg2://loop:{MARK}@127.0.0.1:1/loop",
    "LOOP_MLFLOW_TRACKING_URI": f"http://ann:{MARK}@127.0.0.1:9",
    "LOOP_JUDGE_API_KEY": MARK,
    "LOOP_EMBEDDER_API_KEY": MARK,
    "LOOP_DAGSTER_URL": f"postgresql://dagster:{MARK}@127.0.0.1:1/dagster",
    "AWS_SECRET_ACCESS_KEY": MARK,
    "OPENAI_API_KEY": MARK,
    "GITHUB_TOKEN": MARK,
    "PGPASSWORD": MARK,
    "VLLM_CACHE_TOKEN": MARK,
    "SOMETHING_ELSE": MARK,
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def _recorder(folder: Path) -> tuple[Path, Path]:
    """A stand-in for an interpreter that writes its own environment down, and where it does."""
    said, program = folder / "environ", folder / "python"
    program.write_text(f"#!/bin/sh\ncat /proc/$$/environ > {said}.part\nmv {said}.part {said}\n")
    program.chmod(0o755)
    return program, said


def _wait_for(path: Path) -> str:
    for _ in range(600):
        if path.exists():
            return path.read_text()
        time.sleep(0.1)
    raise TimeoutError(f"{path} did not appear")


@pytest.mark.usefixtures("secrets")
def test_what_a_child_needs_it_gets_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "for the hub")
    monkeypatch.setenv("VLLM_API_KEY", "of the server")
    monkeypatch.setenv("LOOP_HOME", "/somewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    plain = child_environment(OMP_NUM_THREADS="1")
    assert MARK not in str(plain)
    assert {"HF_TOKEN", "VLLM_API_KEY"}.isdisjoint(plain)
    kept = {"PATH", "LOOP_HOME", "CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM"}
    assert kept <= set(plain)
    assert plain["OMP_NUM_THREADS"] == "1"
    assert child_environment(TRAINING_SECRETS)["HF_TOKEN"] == "for the hub"
    assert "VLLM_API_KEY" not in child_environment(TRAINING_SECRETS)
    assert child_environment(SERVER_SECRETS)["VLLM_API_KEY"] == "of the server"


@pytest.mark.usefixtures("secrets")
def test_neither_the_supervisor_nor_its_server_knows_a_secret(tmp_path: Path) -> None:
    program, said = _recorder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    url, log = f"http://127.0.0.1:{free_port()}", tmp_path / "vllm.log"
    supervisor = start_supervisor(str(tmp_path), url, program, log)
    try:
        server = _wait_for(said)
        own = Path(f"/proc/{supervisor.pid}/environ").read_text()
    finally:
        stop(supervisor)
    assert "PATH=" in server
    assert "PATH=" in own
    assert MARK not in server + own + log.read_text()


@pytest.mark.usefixtures("secrets")
def test_the_training_process_knows_no_secret_but_its_own(tmp_path: Path) -> None:
    program, said = _recorder(tmp_path)

    @dg.asset
    def trained(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        command = [str(program)]
        done = TrainingProcess().run(context=context, command=command, extras={}, env={"A": "b"})
        return done.get_materialize_result()

    assert dg.materialize([trained]).success
    assert "A=b" in said.read_text()
    assert "DAGSTER_PIPES_CONTEXT=" in said.read_text()
    assert MARK not in said.read_text()


@pytest.mark.usefixtures("secrets")
def test_an_encoder_of_ones_own_knows_no_secret(tmp_path: Path) -> None:
    program, said = _recorder(tmp_path)
    with pytest.raises((EncoderError, FileNotFoundError)):
        ask_encoder([{"id": 1, "source": "a", "output": "b"}], tmp_path, program)
    assert MARK not in _wait_for(said)


@pytest.mark.parametrize(
    ("command", "store"),
    [("status", "postgresql"), ("review pull", "sqlite"), ("judge", "sqlite")],
)
def test_no_command_prints_a_secret(tmp_path: Path, command: str, store: str) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOOP_")}
    given = SECRETS | {"LOOP_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    given |= {"LOOP_JUDGE_URL": f"http://ann:{MARK}@127.0.0.1:9/v1", "LOOP_JUDGE_MODEL": "m"}
    if store == "sqlite":
        given["LOOP_DATABASE_URL"] = ""
    done = subprocess.run(
        [sys.executable, "-m", "loop_pipeline.cli.main", *command.split()],
        capture_output=True,
        text=True,
        env=clean | given,
        cwd=tmp_path,
    )
    assert MARK not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
