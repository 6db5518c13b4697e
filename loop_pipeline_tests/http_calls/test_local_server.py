from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from loop_pipeline.http_calls.local_server import NotAnswering, free_port, running, wait_for

# Starts a child of its own, says its id, and is not ready at first.
SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
asked = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(1)
        self.send_response(404 if len(asked) > 2 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_met_once_it_is_ready_and_ended_with_all_that_it_started(
    tmp_path: Path,
) -> None:
    port, log = free_port(), tmp_path / "new" / "log"
    with running([sys.executable, "-c", SERVER, str(port)], log, os.environ) as process:
        wait_for(f"http://127.0.0.1:{port}/", process, log, 30)
        child = int(log.read_text().splitlines()[0])
        assert log.read_text().count(" 503 ") == 2
        os.kill(child, 0)
    assert process.returncode is not None
    end = time.monotonic() + 60
    while _lives(child):
        assert time.monotonic() < end, f"{child} was not ended"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    """Whether it runs; one that is dead may wait for whoever has to reap it."""
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_that_ends_or_never_answers_is_said_with_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with (
        running(command, log, os.environ) as process,
        pytest.raises(NotAnswering, match="no such model"),
    ):
        wait_for(f"http://127.0.0.1:{free_port()}/", process, log, 30)
    with running(["sleep", "600"], log, os.environ) as process, pytest.raises(NotAnswering):
        wait_for(f"http://127.0.0.1:{free_port()}/", process, log, 0.2)
    assert process.returncode is not None
