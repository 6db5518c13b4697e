"""The supervisor with small stand-ins for the real processes: order, deaths, kills, one a home."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.processes.state_file import read_state
from loop_pipeline_tests.shared import free_port

ROOT = Path(__file__).parents[2]
# Says hello, then lives until SIGTERM; then it takes so long and notes its name.
LIVES = """
import signal, sys, time
name, seconds, notes = sys.argv[1], float(sys.argv[2]), sys.argv[3]
def end(*_):
    time.sleep(seconds)
    with open(notes, "a") as file:
        file.write(name + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("hello from", name, flush=True)
while True:
    time.sleep(0.05)
"""
# Starts a child that listens and hears no SIGTERM, and is itself deaf, too.
LISTENS = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    time.sleep(0.05)
"""
# Answers 200 to a request once the file is there, 503 before.
ANSWERS = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(sys.argv[2]) else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-S", "-c", code, *map(str, arguments)]


class Running:
    """A supervisor with stand-ins, and what it shows."""

    def __init__(self, home: Path, services: list[dict[str, Any]]) -> None:
        self.home = home
        self.out = home.with_suffix(".out")
        command = [sys.executable, "-m", "loop_pipeline_tests.processes.standins", str(home)]
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [*command, json.dumps(services)],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def shown(self) -> str:
        return self.out.read_text()

    def states(self) -> dict[str, str]:
        facts = read_state(self.home) or {"services": []}
        return {one["name"]: one["state"] for one in facts["services"]}

    def wait_for(self, met: Callable[[], Any]) -> None:
        end = time.monotonic() + 60
        while not met():
            assert time.monotonic() < end, self.shown()
            time.sleep(0.05)

    def all_are(self, state: str) -> bool:
        return set(self.states().values()) == {state}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def start(*services: dict[str, Any]) -> Running:
        running.append(Running(tmp_path / "home", list(services)))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_end_one_after_the_other_in_the_order_given(
    tmp_path: Path, run: Callable[..., Running], number: signal.Signals
) -> None:
    notes = tmp_path / "notes"
    slow = {"name": "gateway", "command": _python(LIVES, "gateway", 0.5, notes)}
    quick = {"name": "shipper", "command": _python(LIVES, "shipper", 0, notes)}
    running = run(slow, quick)
    running.wait_for(lambda: running.shown().count("| hello") == 2)
    running.process.send_signal(number)
    assert running.process.wait(60) == 0
    assert notes.read_text().split() == ["gateway", "shipper"]
    assert read_state(running.home) is None


def test_what_is_left_to_do_is_done_after_the_end_and_before_the_next_one_ends(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    notes = tmp_path / "notes"
    code = "import sys; open(sys.argv[1], 'a').write('spool is empty\\n')"
    shipper = {
        "name": "shipper",
        "command": _python(LIVES, "shipper", 0, notes),
        "finish": _python(code, notes),
    }
    running = run(shipper, {"name": "mlflow", "command": _python(LIVES, "mlflow", 0, notes)})
    running.wait_for(lambda: running.shown().count("| hello") == 2)
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert notes.read_text().splitlines() == ["shipper", "spool is empty", "mlflow"]


def test_each_line_is_shown_with_its_name_and_kept_in_a_file(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    running = run({"name": "gateway", "command": _python(LIVES, "gateway", 0, tmp_path / "notes")})
    running.wait_for(lambda: "gateway | hello from gateway" in running.shown())
    running.wait_for(lambda: "try this" in running.shown())
    assert (running.home / "logs" / "gateway.log").read_text() == "hello from gateway\n"


def test_what_dies_again_and_again_is_said_with_its_last_lines_and_the_rest_goes_on(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    dies = {"name": "shipper", "command": _python("print('no such table'); raise SystemExit(3)")}
    lives = {"name": "gateway", "command": _python(LIVES, "gateway", 0, tmp_path / "notes")}
    running = run(lives, dies)
    running.wait_for(lambda: "the rest goes on" in running.shown())
    shown = running.shown()
    assert "ended with code 3 after 0 s; starts again in 1 s" in shown
    assert "3 in a row; starts again in 4 s" in shown
    assert shown.count("no such table") >= 4  # three times as it came, once more as last lines
    assert running.states() == {"gateway": "ready", "shipper": "died"}


def test_a_killed_process_is_started_again(tmp_path: Path, run: Callable[..., Running]) -> None:
    running = run({"name": "gateway", "command": _python(LIVES, "gateway", 0, tmp_path / "notes")})
    running.wait_for(lambda: running.all_are("ready"))
    [first] = (read_state(running.home) or {})["services"]
    os.kill(first["pid"], signal.SIGKILL)
    running.wait_for(lambda: "was ended by SIGKILL" in running.shown())
    running.wait_for(lambda: running.all_are("ready"))
    [second] = (read_state(running.home) or {})["services"]
    assert second["restarts"] == 1
    assert second["pid"] != first["pid"]


def test_killed_itself_it_leaves_nothing_on_the_ports_and_the_next_start_waits_for_that(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    port = free_port()
    deaf = {"name": "mlflow", "command": _python(LISTENS, port), "stop_s": 1}
    running = run(deaf)
    running.wait_for(lambda: _listens(port))
    running.process.kill()
    running.process.wait()
    early = run(deaf)
    assert early.process.wait(60) == 1
    assert "is still ending: try again" in early.shown()
    running.wait_for(lambda: not _listens(port))
    running.wait_for(lambda: read_state(running.home) is None)
    again = run(deaf)
    again.wait_for(lambda: _listens(port))


def test_a_second_one_on_the_same_home_is_refused_in_one_line(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    lives = {"name": "gateway", "command": _python(LIVES, "gateway", 0, tmp_path / "notes")}
    first = run(lives)
    first.wait_for(lambda: first.all_are("ready"))
    second = subprocess.run(
        [sys.executable, "-m", "loop_pipeline_tests.processes.standins", str(first.home), "[]"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"loop: `loop up` runs on {first.home} already (pid {first.process.pid}):"
        f" see `LOOP_HOME={first.home} loop status`"
    ]
    assert first.all_are("ready")


def test_a_process_that_does_not_end_is_killed_with_what_it_started(
    run: Callable[..., Running],
) -> None:
    port = free_port()
    running = run({"name": "mlflow", "command": _python(LISTENS, port), "stop_s": 0.5})
    running.wait_for(lambda: _listens(port))
    running.process.terminate()
    assert running.process.wait(60) == 0
    assert "does not end" in running.shown()
    assert not _listens(port)


def test_a_second_signal_waits_for_nobody(run: Callable[..., Running]) -> None:
    port = free_port()
    running = run({"name": "mlflow", "command": _python(LISTENS, port), "stop_s": 600})
    running.wait_for(lambda: _listens(port))
    running.process.send_signal(signal.SIGINT)
    running.wait_for(lambda: "ending in order" in running.shown())
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert not _listens(port)


def test_health_is_what_the_process_says_of_itself(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    port, well = free_port(), tmp_path / "well"
    url = f"http://127.0.0.1:{port}"
    answers = {"name": "gateway", "command": _python(ANSWERS, port, well), "health": url}
    running = run(answers)
    running.wait_for(lambda: running.all_are("starting"))
    well.touch()
    running.wait_for(lambda: running.all_are("ready"))
    running.wait_for(lambda: "everything is ready after" in running.shown())
    well.unlink()
    running.wait_for(lambda: running.all_are("not ready"))
    well.touch()
    running.wait_for(lambda: running.all_are("ready"))
    running.wait_for(lambda: "ready again" in running.shown())


def test_a_command_that_is_not_there_takes_nothing_with_it(
    tmp_path: Path, run: Callable[..., Running]
) -> None:
    lives = {"name": "gateway", "command": _python(LIVES, "gateway", 0, tmp_path / "notes")}
    running = run({"name": "vllm", "command": ["/no/such/program"]}, lives)
    running.wait_for(lambda: "cannot be started" in running.shown())
    running.wait_for(lambda: running.states().get("gateway") == "ready")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
