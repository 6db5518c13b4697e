"""Owns a vLLM server: starts it, restarts it when it dies, ends it when asked to.

Not here: what is asked of it (``student_server.py``).

Run: ``python -m loop_pipeline.serving.supervisor --base … --url … --log …``. It lives outside
any Dagster run, so a run that ends never takes the server with it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from loop_pipeline.child_environment import die_with_parent
from loop_pipeline.masking import masked
from loop_pipeline.recipe import is_hub_id
from loop_pipeline.serving.adapter_check import flaw, remembered, sha256_in
from loop_pipeline.serving.server_command import check_start, server_command, server_environment
from loop_pipeline.serving.server_errors import ServerError, last_lines
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.whole_file import write_whole

QUICK_DEATHS = 3
# A server that lived this long after it was ready died of something new.
LONG_LIFE_S = 60.0
START_S = 600.0
STOP_S = 20.0
# A server that refuses lives on; one that cannot bear an adapter is gone after so long.
DYING_S = 1.0

Process = subprocess.Popen[bytes]


class _Stop:
    """Whether SIGTERM or SIGINT came. It is polled: no signal ever cuts a clean-up short."""

    asked = False

    def after(self, seconds: float) -> bool:
        """Wait so long, or until asked to stop; returns whether it was."""
        end = time.monotonic() + seconds
        while not self.asked and time.monotonic() < end:
            time.sleep(0.1)
        return self.asked


def serve(
    base: str,
    url: str,
    serve_python: Path,
    log_path: Path,
    *,
    max_lora_rank: int = 16,
    max_model_len: int = 512,
) -> None:
    """Keep a vLLM server running until SIGTERM or SIGINT; then take it down and return.

    A new server holds no adapter: those that the last deployment noted in ``adapters.json`` beside
    the log are loaded again. Then, while it is ready, ``server.json`` there holds pid (this
    process), server_pid, url, base and started_at.

    Args:
        base: model folder or hub id, served under the name ``base``.
        url: where it listens; the host decides who can reach it.
        serve_python: interpreter of the environment that has vLLM.
        log_path: what vLLM says is appended here.
        max_lora_rank: largest adapter rank to come, rounded up to one vLLM has kernels for.
        max_model_len: tokens of prompt and answer.

    Raises:
        SystemExit: one line on what is missing, or the last log lines after repeated deaths.
    """
    base = base if is_hub_id(base) else str(Path(base).absolute())
    check_start(base, url, serve_python)
    command = server_command(base, url, serve_python, max_lora_rank, max_model_len)
    state = log_path.with_name("server.json")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    deaths, deadly = 0, set[str]()
    with _signals() as stop:
        while deaths < QUICK_DEATHS:
            lived = _one_life(command, base, url, log_path, state, stop, deadly)
            if stop.asked:
                return
            deaths = 1 if lived > LONG_LIFE_S else deaths + 1
            _say(f"the server died {lived:.0f} s after it was ready (death {deaths} in a row)")
            if deaths < QUICK_DEATHS and stop.after(2.0 ** (deaths - 1)):
                return
    raise SystemExit(f"the server died {deaths} times in a row; {last_lines(log_path)}")


def _one_life(
    command: list[str],
    base: str,
    url: str,
    log_path: Path,
    state: Path,
    stop: _Stop,
    deadly: set[str],
) -> float:
    """Run the server until it dies or a stop is asked for. Returns seconds from ready to then.

    ``deadly`` are adapters that a server died of; one more is added if this one does.
    """
    _say(f"starting vLLM on {base} at {masked(url)}")
    start = time.monotonic()
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=server_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
    try:
        if not _wait_ready(process, url, stop):
            return 0.0
        ready = time.monotonic()
        _say(f"ready after {ready - start:.0f} s")
        deadly |= _reload(url, log_path.with_name("adapters.json"), process, deadly)
        _write_state(state, process.pid, url, base)
        while process.poll() is None and not stop.after(0.2):
            pass
        return time.monotonic() - ready
    finally:
        state.unlink(missing_ok=True)
        _end_group(process)


def _wait_ready(process: Process, url: str, stop: _Stop) -> bool:
    """Whether the server answered before it died or was asked to stop."""
    end = time.monotonic() + START_S
    while process.poll() is None and not stop.after(0.2) and time.monotonic() < end:
        with contextlib.suppress(ServerError):
            StudentServer(url).wait_ready(0)
            return True
    return False


def _reload(url: str, memory: Path, process: Process, deadly: set[str]) -> set[str]:
    """Load what has to be served; an adapter that cannot be is said and left out.

    Returns:
        The adapter that the server died of, if it did.
    """
    try:
        adapters = remembered(memory)
    except ValueError as error:
        _say(f"no adapter is served: {error}")
        return set()
    for name, folder in adapters.items():
        if problem := _not_loadable(name, Path(folder), deadly):
            _say(f"{name} is not served: {problem}")
            continue
        try:
            StudentServer(url).load(name, folder)
            _say(f"{name} is loaded again")
        except (ServerError, OSError, ValueError) as error:
            _say(f"{name} is not served: {error}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(DYING_S)
                _say(f"the server died of {name}: it is left out from now on")
                return {name}
    return set()


def _not_loadable(name: str, folder: Path, deadly: set[str]) -> str | None:
    if name in deadly:
        return "a server died of it; train it again, or restart `loop serve` to try once more"
    return flaw(folder, sha256_in(name))


def _write_state(state: Path, server_pid: int, url: str, base: str) -> None:
    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "server_pid": server_pid,
        "url": url,
        "base": base,
        "started_at": dt.datetime.now(dt.UTC).isoformat(),
    }
    write_whole(state, json.dumps(facts) + "\n")


def _end_group(process: Process) -> None:
    """End the server and the workers it started, also those a killed server left behind."""
    for number, seconds in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, 5.0)):
        end = time.monotonic() + seconds
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < end:
                process.poll()  # a zombie leader would keep its group in being
                os.killpg(process.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S} supervisor: {text}", flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Keep the student's server running.")
    parser.add_argument("--base", required=True, help="model folder or hub id")
    parser.add_argument("--url", required=True, help="where to listen")
    parser.add_argument("--log", type=Path, required=True, help="file for what vLLM says")
    parser.add_argument("--serve-python", type=Path, default=Path(".venv-serve/bin/python"))
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-model-len", type=int, default=512)
    given = parser.parse_args()
    serve(
        given.base,
        given.url,
        given.serve_python,
        given.log,
        max_lora_rank=given.max_lora_rank,
        max_model_len=given.max_model_len,
    )


if __name__ == "__main__":
    main()
