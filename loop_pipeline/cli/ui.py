"""``loop ui``: Dagster and MLflow in the browser, on what this ``LOOP_HOME`` holds.

The pages themselves are Dagster's and MLflow's; what they show comes from `defs` and `store`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from loop_pipeline.child_environment import child_environment
from loop_pipeline.dagster_home import dagster_home
from loop_pipeline.masking import masked
from loop_pipeline.serving.student_server import last_lines
from loop_pipeline.serving.supervisor import die_with_parent
from loop_pipeline.settings import LoopSettings, load_settings

HOST = "127.0.0.1"
# Dagster ends its own children, one after the other, and waits up to 60 s for each.
STOP_S = 90.0
START_S = 180.0
# If a port is taken, one of the next is used.
PORTS = 20


@dataclass
class Page:
    """One server with pages; without a process of ours if it runs elsewhere."""

    name: str
    url: str
    about: str
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs, or is none of ours."""
        return self.process is None or self.process.poll() is None

    @property
    def answers(self) -> bool:
        """Whether its start page can be had."""
        try:
            with urllib.request.urlopen(self.url, timeout=5) as reply:  # noqa: S310
                return reply.status == 200
        except (urllib.error.URLError, TimeoutError, OSError):
            return False


def ui(
    port: Annotated[int, typer.Option(help="Dagster's port, or the next that is free.")] = 3000,
    mlflow: Annotated[bool, typer.Option(help="Also start MLflow's browser.")] = True,
    mlflow_port: Annotated[int, typer.Option(help="MLflow's port, likewise.")] = 5000,
) -> None:
    """Open Dagster and MLflow; run history, schedules and sensors' places stay in LOOP_HOME."""
    settings = load_settings()
    with _stop_signals() as stop:
        pages: list[Page] = []
        try:
            if mlflow:
                pages.append(_mlflow(settings, mlflow_port))
            pages.append(_dagster(settings, port))
            _show(settings, pages)
            _watch(pages, stop)
        finally:
            for page in reversed(pages):
                _end(page)
    typer.echo("ended")


def _dagster(settings: LoopSettings, port: int) -> Page:
    home = dagster_home(settings)
    port = _free_port(port)
    command = [sys.executable, "-m", "dagster", "dev", "--workspace", str(home / "workspace.yaml")]
    command += ["--host", HOST, "--port", str(port), "--log-level", "warning"]
    # The pipeline itself: it needs every setting and secret that this process has.
    environment = os.environ | {
        "LOOP_HOME": str(settings.home.absolute()),
        "DAGSTER_HOME": str(home),
        # The command is what is documented here; `dg dev` wants a project's source.
        "PYTHONWARNINGS": "ignore",
    }
    log = home / "dev.log"
    about = f"jobs, schedules, runs; kept in {home}"
    return Page("Dagster", f"http://{HOST}:{port}", about, _start(command, environment, log), log)


def _mlflow(settings: LoopSettings, port: int) -> Page:
    about = "trainings, models, review desk"
    if settings.tracking_uri.startswith("http"):
        return Page("MLflow", settings.tracking_uri, about)
    port = _free_port(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1"]
    # By the environment: arguments can be read by everybody on the machine.
    environment = child_environment(
        MLFLOW_BACKEND_STORE_URI=settings.tracking_uri,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
    )
    log = settings.home.absolute() / "mlflow-ui.log"
    return Page("MLflow", f"http://{HOST}:{port}", about, _start(command, environment, log), log)


def _start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to this process, which ends them in order
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )


def _show(settings: LoopSettings, pages: list[Page]) -> None:
    report = settings.artifacts / "report" / "report.html"
    rows = [(page.name, masked(page.url), page.about) for page in reversed(pages)]
    if report.exists():
        rows.append(("report", str(report), "open it in a browser"))
    width = max(len(where) for _, where, _ in rows)
    for name, where, about in rows:
        typer.echo(f"{name:<9}{where:<{width}}  {about}")
    typer.echo("starting; Ctrl-C ends it")


def _watch(pages: list[Page], stop: list[int]) -> None:
    """Say when every page can be had; go on until asked to stop.

    Raises:
        RuntimeError: a server ended by itself, or does not answer; with the end of its log.
    """
    begun, silent = time.monotonic(), list(pages)
    while not stop:
        for page in pages:
            if not page.alive:
                raise RuntimeError(f"{page.name} ended: {last_lines(page.log or Path(), 5)}")
        if silent:
            silent = [page for page in silent if not page.answers]
            waited = time.monotonic() - begun
            if not silent:
                typer.echo(f"ready after {waited:.0f} s")
            elif waited > START_S:
                names = " and ".join(page.name for page in silent)
                raise RuntimeError(f"no answer from {names} after {START_S:.0f} s")
        time.sleep(0.5)


def _end(page: Page) -> None:
    """End a server and whatever it started."""
    if page.process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        page.process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        page.process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(page.process.pid, signal.SIGKILL)
    page.process.wait()


def _free_port(wanted: int) -> int:
    for port in range(wanted, wanted + PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise RuntimeError(f"no free port from {wanted} to {wanted + PORTS - 1}: name another")


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM comes."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
