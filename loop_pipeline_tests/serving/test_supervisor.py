"""The supervisor, with a stand-in for vLLM: a small HTTP server that can be told to die."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loop_pipeline.serving.adapter_check import remember
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.serving.supervisor import serve
from loop_pipeline.serving.supervisor_process import start_supervisor, stop
from loop_pipeline_tests.serving.test_adapter_check import make_adapter

FAKE = """
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, {"data": [{"id": "base", "root": "/models/base", "parent": None}]})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "deadly" in body["lora_path"]:
            os._exit(3)
        known = "gone" not in body["lora_path"]
        print("loads", body["lora_name"], known, flush=True)
        self.reply(200 if known else 404, {"error": "No adapter found"})
    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
    def log_message(self, *args): pass
print("fake vLLM with", *sys.argv[1:], flush=True)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("worker", worker.pid, flush=True)
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
BROKEN = "import sys; sys.exit('EngineCore failed: not enough memory')"


@pytest.fixture
def url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def interpreter(folder: Path, program: str) -> Path:
    """Something that takes vLLM's arguments and runs this program instead."""
    (folder / "fake.py").write_text(program)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def eventually(claim: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def running(
    tmp_path: Path, base_dir: Path, url: str
) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    log = tmp_path / "home" / "vllm.log"
    process = start_supervisor(
        str(base_dir), url, interpreter(tmp_path, FAKE), log, max_lora_rank=20, max_model_len=256
    )
    state = log.with_name("server.json")
    try:
        eventually(state.exists)
        yield process, log, state
    finally:
        stop(process)


def test_it_serves_says_where_and_leaves_nothing_behind(
    running: tuple[subprocess.Popen[bytes], Path, Path], base_dir: Path, url: str
) -> None:
    process, log, state = running
    facts = json.loads(state.read_text())
    assert (facts["pid"], facts["url"], facts["base"]) == (process.pid, url, str(base_dir))
    StudentServer(url).wait_ready(1)
    said = log.read_text()
    assert "--max-lora-rank 32" in said, "20 is no rank vLLM has kernels for"
    assert "--host 127.0.0.1" in said
    worker = int(said.split("worker ")[1].split()[0])
    stop(process)
    assert process.returncode == 0
    assert not state.exists()
    assert not alive(facts["server_pid"])
    assert not alive(worker)


def test_a_killed_server_comes_back_with_its_old_workers_gone(
    running: tuple[subprocess.Popen[bytes], Path, Path], url: str
) -> None:
    _, log, state = running
    first = json.loads(state.read_text())["server_pid"]
    worker = int(log.read_text().split("worker ")[1].split()[0])
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not state.exists())
    eventually(state.exists)
    assert json.loads(state.read_text())["server_pid"] != first
    assert not alive(worker)
    StudentServer(url).wait_ready(1)


def test_a_server_that_comes_back_holds_what_it_has_to_serve(
    running: tuple[subprocess.Popen[bytes], Path, Path],
) -> None:
    _, log, state = running
    assert "loads" not in log.read_text(), "nothing was deployed yet"
    memory = log.with_name("adapters.json")
    remember(memory, {"student-1": "/a/1", "student-2": "/a/gone", "student-3": "/a/3"})
    os.kill(json.loads(state.read_text())["server_pid"], signal.SIGKILL)
    eventually(lambda: not state.exists())
    eventually(state.exists)
    said = log.read_text()
    assert "student-1 is loaded again" in said
    assert "student-3 is loaded again" in said
    assert "student-2 is not served: POST" in said


@pytest.mark.parametrize("damage", ["{", "[]"])
def test_damaged_notes_cost_the_adapters_they_name_not_the_server(
    running: tuple[subprocess.Popen[bytes], Path, Path], damage: str
) -> None:
    process, log, state = running
    log.with_name("adapters.json").write_text(damage)
    os.kill(json.loads(state.read_text())["server_pid"], signal.SIGKILL)
    eventually(lambda: "no adapter is served" in log.read_text())
    eventually(state.exists)
    assert "adapters.json is damaged" in log.read_text()
    assert process.poll() is None


def test_a_damaged_adapter_costs_itself_and_the_server_never_sees_it(
    running: tuple[subprocess.Popen[bytes], Path, Path], tmp_path: Path
) -> None:
    process, log, state = running
    empty = make_adapter(tmp_path / "empty", "/models/base", 64)
    (empty / "adapter_model.safetensors").write_bytes(b"")
    cut = make_adapter(tmp_path / "cut", "/models/base", 64)
    (cut / "adapter_config.json").write_text('{"base_model_name_or')
    memory = log.with_name("adapters.json")
    memory.write_text(json.dumps({"a": str(empty), "b": str(cut), "c": 5, "d": "/a/good"}))
    os.kill(json.loads(state.read_text())["server_pid"], signal.SIGKILL)
    eventually(lambda: "d is loaded again" in log.read_text())
    said = log.read_text()
    assert f"a is not served: {empty}/adapter_model.safetensors is cut off" in said
    assert f"b is not served: {cut}/adapter_config.json is damaged" in said
    assert "c names no folder" in said
    assert "loads a" not in said
    assert "loads b" not in said
    assert process.poll() is None


def test_an_adapter_that_a_server_dies_of_is_left_out_from_then_on(
    running: tuple[subprocess.Popen[bytes], Path, Path], url: str
) -> None:
    process, log, state = running
    remember(log.with_name("adapters.json"), {"a": "/a/1", "b": "/a/deadly", "c": "/a/3"})
    os.kill(json.loads(state.read_text())["server_pid"], signal.SIGKILL)
    eventually(lambda: "c is loaded again" in log.read_text())
    said = log.read_text()
    assert "the server died of b: it is left out from now on" in said
    assert "b is not served: a server died of it" in said
    StudentServer(url).wait_ready(1)
    assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends a child with its parent")
def test_a_killed_supervisor_takes_its_server_with_it(
    running: tuple[subprocess.Popen[bytes], Path, Path],
) -> None:
    process, log, state = running
    server = json.loads(state.read_text())["server_pid"]
    worker = int(log.read_text().split("worker ")[1].split()[0])
    process.kill()
    eventually(lambda: not alive(server))
    assert not alive(server)
    os.kill(worker, signal.SIGKILL)  # vLLM's own workers end with their server


def test_three_deaths_in_a_row_are_the_end(
    tmp_path: Path, base_dir: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.serving.supervisor._Stop.after", lambda *_: False)
    log = tmp_path / "vllm.log"
    with pytest.raises(SystemExit, match="EngineCore failed: not enough memory") as caught:
        serve(str(base_dir), url, interpreter(tmp_path, BROKEN), log)
    assert "died 3 times in a row" in str(caught.value)
    assert log.read_text().count("EngineCore failed") == 3
    assert not log.with_name("server.json").exists()


def test_what_is_missing_is_one_clear_line(tmp_path: Path, base_dir: Path, url: str) -> None:
    python, log = Path(sys.executable), tmp_path / "vllm.log"
    with pytest.raises(SystemExit, match="run `make serve-env` first"):
        serve(str(base_dir), url, tmp_path / "no-python", log)
    with pytest.raises(SystemExit, match="is no model folder"):
        serve(str(tmp_path), url, python, log)
    with pytest.raises(SystemExit, match="is no address to serve at"):
        serve(str(base_dir), "localhost", python, log)
    with pytest.raises(SystemExit, match="up to rank 512, not 1024"):
        serve(str(base_dir), url, python, log, max_lora_rank=1024)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        taken.listen()
        with pytest.raises(SystemExit, match="cannot listen at"):
            serve(str(base_dir), url, python, log)
