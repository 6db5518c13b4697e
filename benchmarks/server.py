"""A real vLLM on a random model of the `tiny` profile's width, for the serving benchmarks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fixtures import make_adapter, make_model
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.serving.supervisor_process import start_supervisor, stop

HIDDEN = 192
START_S = 900
PYTHON = Path(os.environ.get("LOOP_SERVE_PYTHON", ".venv-serve/bin/python"))


def vllm_release() -> str:
    """Name and version of the vLLM that answers."""
    asked = [str(PYTHON), "-c", "from importlib.metadata import version; print(version('vllm'))"]
    return (
        "vLLM " + subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    )


@dataclass(frozen=True)
class World:
    """A running server and adapters that it does not hold yet."""

    home: Path
    server: StudentServer
    adapters: list[Path]


@contextlib.contextmanager
def serving(adapters: int) -> Iterator[World]:
    """Serve a random base model; some random adapters lie beside it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        base = make_model(home / "base", HIDDEN)
        made = [make_adapter(base, home / f"adapter{i}", i + 1) for i in range(adapters)]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        log = home / "vllm.log"
        process = start_supervisor(str(base), url, PYTHON, log, max_lora_rank=8)
        try:
            server = StudentServer(url, log_path=log)
            server.wait_ready(START_S)
            yield World(home, server, made)
        finally:
            stop(process)
