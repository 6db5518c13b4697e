"""Starts and ends a supervisor as a process of its own, for a turn that needs a server.

What the supervisor does is in ``supervisor``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loop_pipeline.child_environment import SERVER_SECRETS, child_environment
from loop_pipeline.serving.supervisor import STOP_S, Process


def supervisor_command(
    base: str,
    url: str,
    serve_python: Path,
    log_path: Path,
    *,
    max_lora_rank: int = 16,
    max_model_len: int = 512,
) -> list[str]:
    """The command line that runs `serve`."""
    command = [sys.executable, "-m", "loop_pipeline.serving.supervisor"]
    command += ["--base", base, "--url", url, "--log", str(log_path)]
    command += ["--serve-python", str(serve_python)]
    return [*command, "--max-lora-rank", str(max_lora_rank), "--max-model-len", str(max_model_len)]


def start_supervisor(
    base: str,
    url: str,
    serve_python: Path,
    log_path: Path,
    *,
    max_lora_rank: int = 16,
    max_model_len: int = 512,
) -> Process:
    """Start `serve` as a process of its own that outlives the caller; its words go to the log.

    It returns at once: ask ``StudentServer(url).wait_ready(...)`` for the rest.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = supervisor_command(
        base,
        url,
        serve_python,
        log_path,
        max_lora_rank=max_lora_rank,
        max_model_len=max_model_len,
    )
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(SERVER_SECRETS),
            start_new_session=True,
        )


def stop(supervisor: Process) -> None:
    """End a supervisor and its server."""
    supervisor.terminate()
    try:
        supervisor.wait(STOP_S + 10)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
