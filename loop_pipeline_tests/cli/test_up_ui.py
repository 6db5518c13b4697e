"""``loop ui`` for real: what is turned on in Dagster is on again at the next start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loop_pipeline_tests.conftest import free_port

ROOT = Path(__file__).parents[2]
PLACE = '{repositoryName: "__repository__", repositoryLocationName: "loop"'
TURN_ON = (
    f'mutation {{ startSchedule(scheduleSelector: {PLACE}, scheduleName: "daily_labels"}})'
    " { ... on ScheduleStateResult { scheduleState { status } } } }"
)
STATE = (
    f'{{ scheduleOrError(scheduleSelector: {PLACE}, scheduleName: "daily_labels"}})'
    " { ... on Schedule { scheduleState { status } } } }"
)


@contextmanager
def _running(home: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOOP_", "DAGSTER_"))}
    log = home.with_suffix(".out")
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "loop_pipeline.cli.main", "ui", "--port", str(port), *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean | {"LOOP_HOME": home.name, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            cwd=home.parent,  # LOOP_HOME is a relative path here, as in `make ui`
        )
    try:
        for _ in range(1200):
            if "ready after" in log.read_text():
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(150) == 0, log.read_text()


def _ask(port: int, query: str) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.read().decode()


def processes_of(home: Path) -> list[str]:
    """Command lines that know of this home, by their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{home}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_schedule_that_was_turned_on_is_on_at_the_next_start(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    with _running(home, port, "--no-mlflow"):
        assert processes_of(home)
        assert "STOPPED" in _ask(port, STATE)
        assert "RUNNING" in _ask(port, TURN_ON)
    assert processes_of(home) == []
    with _running(home, port, "--no-mlflow"):
        assert "RUNNING" in _ask(port, STATE)
    assert processes_of(home) == []
