"""``loop up`` for real: what it starts, what it says of it, and what is left when it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from loop_pipeline.processes.state_file import read_state
from loop_pipeline_tests.cli.test_up_ui import processes_of
from loop_pipeline_tests.shared import free_port

ROOT = Path(__file__).parents[2]
START_S = 300.0


def _environment(home: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LOOP_", "DAGSTER_"))}
    return clean | {
        "LOOP_HOME": str(home),
        "LOOP_GATEWAY_PORT": str(free_port()),
        "LOOP_VLLM_URL": f"http://127.0.0.1:{free_port()}",
        "PYTHONPATH": str(ROOT),
    }


class Up:
    """A running ``loop up``."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home, self.environment = home, _environment(home)
        self.out = home.with_suffix(".out")
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "loop_pipeline.cli.main", "up", *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=ROOT,
            )

    def status(self) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "loop_pipeline.cli.main", "status"],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=ROOT,
            check=True,
        )
        return done.stdout

    def wait_for(self, met: Callable[[], bool]) -> None:
        end = time.monotonic() + START_S
        while not met():
            assert time.monotonic() < end, self.out.read_text()
            assert self.process.poll() is None, self.out.read_text()
            time.sleep(0.25)

    def url(self, name: str) -> str:
        services = (read_state(self.home) or {})["services"]
        return next(one["url"] for one in services if one["name"] == name)


@contextmanager
def _up(home: Path, *options: str) -> Iterator[Up]:
    running = Up(home, *options)
    try:
        running.wait_for(lambda: "everything is ready" in running.out.read_text())
        yield running
    finally:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(200) == 0, running.out.read_text()
    assert processes_of(home) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_request_is_answered_becomes_a_trace_and_status_tells_the_rest(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "artifacts" / "report").mkdir(parents=True)
    (home / "artifacts" / "report" / "numbers.json").write_text("{}")
    with _up(home, "--demo") as running:
        asked = {
            "model": "claude-opus-5",
            "messages": [
                {"role": "system", "content": "Classify the request."},
                {"role": "user", "content": "Hello, where is my order 48213? It is urgent."},
            ],
        }
        reply = requests.post(
            f"{running.url('gateway')}/v1/chat/completions", json=asked, timeout=30
        )
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"] == "delivery_status"
        running.wait_for(lambda: "1 in the store" in running.status())
        status = running.status()
        assert "policy     none: everything goes to the frontier" in status
        assert "daily_labels" in next(
            line for line in status.splitlines() if line.startswith("schedules  on:")
        )
        assert "vllm: waits for a base model" in status
        second = subprocess.run(
            [sys.executable, "-m", "loop_pipeline.cli.main", "up"],
            capture_output=True,
            text=True,
            env=running.environment,
            cwd=ROOT,
            check=False,
        )
        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1
    assert "nothing; `loop up`" in running.status()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_it_leaves_no_process_and_by_hand_the_schedules_are_off(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = Up(home, "--manual")
    running.wait_for(lambda: "everything is ready" in running.out.read_text())
    assert "schedules  off: " in running.status()
    running.process.kill()
    running.process.wait()
    end = time.monotonic() + 120
    while processes_of(home):
        assert time.monotonic() < end, processes_of(home)
        time.sleep(0.25)
    shutil.rmtree(home)
