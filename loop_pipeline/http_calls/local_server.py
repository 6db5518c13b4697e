"""A local server that is needed for a while: started, met once it answers, ended afterwards.

Not here: servers that are started again when they die (``serving``, ``processes``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

START_S = STOP_S = 60.0
# Of a log, where a server does not come up.
LAST_CHARS = 2000


class NotAnswering(RuntimeError):
    """The server did not come up; the text has the end of its log."""


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, ended afterwards with all that it started.

    Args:
        command: of the server.
        log: where its output is appended.
        environment: all that it gets.
        cwd: where it runs; None: here.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(
    url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = START_S
) -> None:
    """Wait until something answers there, whatever it says but that it is not ready.

    Raises:
        NotAnswering: the process has ended, or the time is over.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if _answers(url):
            return
        time.sleep(0.1)
    words = log.read_text(errors="replace")[-LAST_CHARS:] if log.exists() else "(no log)"
    raise NotAnswering(f"nothing answers at {url}: {words}")


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        return error.code != HTTPStatus.SERVICE_UNAVAILABLE
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
