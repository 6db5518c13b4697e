"""The life of one process: started, asked how it is, started again when it dies, ended.

Not here: the others beside it (``keep_running.py``).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from loop_pipeline.child_environment import die_with_parent
from loop_pipeline.processes.service import Service
from loop_pipeline.processes.watchdog import Watchdog
from loop_pipeline.serving.server_errors import last_lines

State = Literal["waits", "starting", "ready", "not ready", "died", "elsewhere", "away", "ended"]

# After a death it is waited 1 s, then 2, 4, …, at most so long.
LONGEST_WAIT_S = 60.0
# A process that lived this long died of something new.
LONG_LIFE_S = 60.0
# So many deaths in a row are worth its last lines.
DEATHS_SHOWN = 3
LINES_SHOWN = 8
ASK_S = 2.0
ASK_SOON_S = 0.5


class Child:
    """One process of the loop.

    Args:
        service: what it is.
        log: file for what it prints.
        say: shows a line about it.
        watchdog: ends it if this process is killed.
    """

    def __init__(
        self, service: Service, log: Path, say: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        self.service, self.log = service, log
        self.restarts = 0
        self.since = _now()
        self.state: State = "elsewhere" if service.elsewhere else "waits"
        self.note = ""
        self._say, self._watchdog = say, watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._next_start = 0.0
        self._deaths = 0
        self._well = False
        self._over = threading.Event()
        threading.Thread(target=self._ask, daemon=True).start()

    def tick(self) -> None:
        """Take note of what happened, and start it if it is time to."""
        if self.service.elsewhere:
            self._becomes("elsewhere" if self._well else "away")
        elif self._process is None:
            self._start_if_due()
        elif (code := self._process.poll()) is not None:
            self._died(code)
        elif self._well:
            if self.state == "starting":
                self._say(f"ready after {time.monotonic() - self._started:.0f} s")
            elif self.state == "not ready":
                self._say("ready again")
            self._becomes("ready")
        elif self.state == "ready":
            self._say("not ready: it does not answer, or says that it is not")
            self._becomes("not ready")

    def end(self, hurry: Callable[[], bool]) -> None:
        """Ask it to end, wait for that, and end whatever it left behind.

        Args:
            hurry: whether it should not be waited for any longer.
        """
        self._over.set()
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.service.stop_signal)
        self._wait_for(process, hurry)
        if self.service.finish and not hurry():
            try:
                self._wait_for(self._popen(self.service.finish), hurry)
            except OSError as error:  # the others have to be ended nevertheless
                self._say(f"what was left to do is not done: {error}")
        self._becomes("ended")

    def _wait_for(self, process: subprocess.Popen[bytes], hurry: Callable[[], bool]) -> None:
        """Wait until it ends by itself; after its time, or in a hurry, it is killed."""
        end = time.monotonic() + self.service.stop_s
        while process.poll() is None and time.monotonic() < end and not hurry():
            time.sleep(0.05)
        if process.poll() is None:
            self._say(f"does not end: killed after {self.service.stop_s:.0f} s or on demand")
        self._clear(process)

    def facts(self) -> dict[str, Any]:
        """What other terminals may know of it."""
        return {
            "name": self.service.name,
            "pid": self._process.pid if self._process else None,
            "url": self.service.url,
            "state": self.state,
            "note": self.note,
            "restarts": self.restarts,
            "since": self.since.isoformat(timespec="seconds"),
            "log": "" if self.service.elsewhere else str(self.log),
        }

    def _start_if_due(self) -> None:
        if time.monotonic() < self._next_start:
            return
        if reason := self.service.waits_for():
            note = f"waits for {reason}"
            if note != self.note:
                self._say(note)
            self.note = note
            self._becomes("waits")
            self._next_start = time.monotonic() + ASK_S
            return
        self.note = ""
        self._start()

    def _start(self) -> None:
        self._well = False
        try:
            self._process = self._popen(self.service.command)
        except OSError as error:
            self._wait_longer(f"cannot be started: {error}")
            return
        self._started = time.monotonic()
        self._becomes("starting")

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.service.environment,
                start_new_session=True,  # Ctrl-C comes to this process alone
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        self._watchdog.watch(process.pid, self.service.stop_signal, self.service.stop_s)
        return process

    def _died(self, code: int) -> None:
        assert self._process is not None
        self._clear(self._process)
        self._process, self._well = None, False
        lived = time.monotonic() - self._started
        self._deaths = 0 if lived > LONG_LIFE_S else self._deaths
        how = f"ended with code {code}" if code >= 0 else f"was ended by {_name(-code)}"
        self._wait_longer(f"{how} after {lived:.0f} s")

    def _wait_longer(self, what: str) -> None:
        wait = min(2.0 ** min(self._deaths, 16), LONGEST_WAIT_S)
        self._deaths += 1
        self.restarts += 1
        self._next_start = time.monotonic() + wait
        self.note = f"{what}; {self._deaths} in a row" if self._deaths > 1 else what
        self._say(f"{self.note}; starts again in {wait:.0f} s")
        if self._deaths == DEATHS_SHOWN:
            self._say(f"{last_lines(self.log, LINES_SHOWN)}\n  (it is tried on; the rest goes on)")
        self._becomes("died")

    def _clear(self, process: subprocess.Popen[bytes]) -> None:
        """End what it started and left behind: a port must be free before it starts again."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._watchdog.forget(process.pid)

    def _becomes(self, state: State) -> None:
        if state != self.state:
            self.state, self.since = state, _now()

    def _ask(self) -> None:
        """In a thread of its own: a server that hangs holds up nobody."""
        while not self._over.wait(ASK_SOON_S if self.state == "starting" else ASK_S):
            asked = self._process
            if asked is None and not self.service.elsewhere:
                continue
            well = self.service.well()
            if asked is self._process:  # and not one that died meanwhile
                self._well = well


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
