"""The gateway's parent process: starts workers on one socket, and copies what they need.

Not here: answering requests (``worker.py``), and the traces' way into the store (``ship.py``).
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from loop_pipeline.child_environment import child_environment, die_with_parent
from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.copies import Copies
from loop_pipeline.gateway.access.live_files import KEYS, LiveFiles
from loop_pipeline.gateway.admin.admin_server import AdminServer
from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.live_view import LiveView
from loop_pipeline.gateway.config import GatewayConfig, secret_variables
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.page_proxy import SOCKET
from loop_pipeline.settings import LoopSettings

# Between two copies of what the store says: a revoked key is out within 5 s.
COPY_S = 2.0
LOOK_S = 0.2
# A worker that dies is started again, after a wait that doubles up to the most.
FIRST_WAIT_S, MOST_WAIT_S, GOOD_S = 0.5, 30.0, 60.0
# Workers finish for 30 s of their own.
END_S = 45.0
BACKLOG = 2048

_log = logging.getLogger(__name__)


@dataclass
class _Slot:
    """One of the workers: its process, and when it may be started again."""

    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    again_at: float = 0.0
    wait: float = FIRST_WAIT_S


class Gateway:
    """The parent. ``run`` returns when it was told to end and all workers have."""

    def __init__(
        self,
        config: GatewayConfig,
        settings: LoopSettings,
        installation: bytes,
        open_engine: Callable[[], Engine],
    ) -> None:
        """Copy what the store says, and listen.

        Raises:
            ValueError: it would be open to strangers, or nobody knows who may call.
            OSError: the port is taken.
        """
        self._config = config
        self._secrets = secret_variables(settings, installation)
        self._copies = Copies(config.folder, open_engine)
        self._stop = threading.Event()
        known = self._copies.refresh()
        _check_open(config, known, installation)
        self._listener = _listen(config.host, config.port)
        self._shared = _shared_counts(config)
        rent = Rent(settings.server_hourly_usd, len(settings.vllm_urls))
        view = LiveView(config.folder.parent, open_engine, rent, prices=settings.prices)
        self._page = AdminServer(config.folder / SOCKET, view)
        self._slots = [_Slot() for _ in range(config.workers)]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    def stop(self) -> None:
        """Tell it to end."""
        self._stop.set()

    def run(self) -> None:
        """Keep the workers running until it is told to end."""
        copier = threading.Thread(target=self._copy, name="copies", daemon=True)
        copier.start()
        self._page.start()
        try:
            while not self._stop.wait(LOOK_S):
                for slot in self._slots:
                    self._keep(slot)
        finally:
            self._end()

    def _copy(self) -> None:
        while not self._stop.wait(COPY_S):
            self._copies.refresh()

    def _keep(self, slot: _Slot) -> None:
        """Start a worker that does not run, if it is time."""
        now = time.monotonic()
        if slot.process is not None:
            code = slot.process.poll()
            if code is None:
                return
            slot.wait = FIRST_WAIT_S if now - slot.started > GOOD_S else slot.wait
            _log.error("worker %d ended with %d; again in %g s", slot.process.pid, code, slot.wait)
            counters.forget(slot.process.pid)
            slot.process, slot.again_at = None, now + slot.wait
            slot.wait = min(2 * slot.wait, MOST_WAIT_S)
        if now >= slot.again_at:
            slot.process, slot.started = self._start(), now

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "loop_pipeline.gateway.worker", str(number)],
            stdin=subprocess.PIPE,
            pass_fds=[number],
            env=child_environment(**self._secrets, **self._shared),
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        assert process.stdin is not None
        process.stdin.write(self._config.text().encode())
        process.stdin.close()
        return process

    def _end(self) -> None:
        """End the workers: those who connect now find nobody, those who wait get their answer."""
        self._listener.close()
        self._page.stop()
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_S
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check_open(config: GatewayConfig, known: bool, installation: bytes) -> None:
    """Refuse to start where strangers could call.

    Raises:
        ValueError: says what to do.
    """
    if not known and not (config.folder / KEYS).exists():
        raise ValueError(
            "the store does not answer, and there is no copy of its keys from before: nobody knows "
            "who may call. Start the gateway once while the store runs"
        )
    if config.loopback or config.auth == "passthrough":
        return
    access = Access(loopback=False, passthrough=False)
    LiveFiles(config.folder, config.policies, access, {}, secret=installation)
    if not access.keys:
        raise ValueError(
            f"without keys the gateway listens on 127.0.0.1 only, not on {config.host}: "
            "make a key with `loop keys add`"
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only if it says that it is TCP, asyncio sends small pieces at once.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener


def _shared_counts(config: GatewayConfig) -> dict[str, str]:
    """Where several workers count together: files of this run, none of an earlier one's."""
    if config.workers == 1:
        return {}
    folder = config.folder / "counts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    os.environ[counters.SHARED] = str(folder)
    return {counters.SHARED: str(folder)}
