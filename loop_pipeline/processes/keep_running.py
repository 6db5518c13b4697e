"""Keeps the processes of a home running until it is told to end; then ends them in order.

Not here: which processes (``home_services.py``), and the life of one (``child.py``).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from loop_pipeline.masking import masked
from loop_pipeline.processes.child import Child
from loop_pipeline.processes.log_view import LogView
from loop_pipeline.processes.service import Service
from loop_pipeline.processes.state_file import sole, status_command, write_state
from loop_pipeline.processes.watchdog import Watchdog

TICK_S = 0.1
# The name under which this process itself speaks.
SELF = "loop"


def nothing_more(_: Sequence[Service]) -> str:
    """For a command that has nothing to say once all is ready."""
    return ""


def keep_running(
    home: Path,
    command: str,
    services_of: Callable[[], Sequence[Service]],
    *,
    when_ready: Callable[[Sequence[Service]], str] = nothing_more,
) -> None:
    """Run services until SIGINT or SIGTERM, then end them in the order in which they are given.

    A second signal ends those that are left at once. What they print is shown with their names,
    and kept in ``logs/NAME.log`` of the home.

    Args:
        home: the loop's home folder; only one caller at a time has it.
        command: as people typed it.
        services_of: names them, once it is certain that nothing else runs on the home.
        when_ready: makes what to say once all that can be are ready.

    Raises:
        RuntimeError: something else runs on the home; one line.
    """
    with sole(home, command) as lock, _stop_signals() as stop:
        services = list(services_of())
        folder = home / "logs"
        with LogView([SELF, *(s.name for s in services)], folder) as view:
            view.plain(table(services, home))
            watchdog = Watchdog(lock)
            children = [
                Child(s, folder / f"{s.name}.log", partial(view.say, s.name), watchdog)
                for s in services
            ]
            board = _Board(home, command, children, view)
            try:
                _until_told(children, board, stop, when_ready(services))
            finally:
                _end(children, board, stop)
                watchdog.close()
            view.say(SELF, "ended")


def table(services: Sequence[Service], home: Path) -> str:
    """Where everything is met, and where its log is."""
    rows = [(s.name, masked(s.url) or "-", s.about) for s in services]
    rows.append(("logs", str(home / "logs"), "of each process"))
    wide = max(len(name) for name, _, _ in rows), max(len(where) for _, where, _ in rows[:-1])
    lines = [f"  {name:<{wide[0]}}  {where:<{wide[1]}}  {about}" for name, where, about in rows]
    rest = f"Ctrl-C ends it all. In another terminal: {status_command(home)}"
    return "\n".join(["", *lines, "", rest, ""])


class _Board:
    """What other terminals read; written again when something is different."""

    def __init__(self, home: Path, command: str, children: list[Child], view: LogView) -> None:
        self._home, self._children, self._view = home, children, view
        self._facts: dict[str, Any] = {
            "command": command,
            "pid": os.getpid(),
            "started_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        self._written: list[dict[str, Any]] | None = None
        self._lost = ""

    def say_ready(self, seconds: float, more: str) -> None:
        """Everything that can run does."""
        waiting = [c.service.name for c in self._children if c.state == "waits"]
        but = f" ({', '.join(waiting)} waits)" if waiting else ""
        self._view.say(SELF, f"everything is ready after {seconds:.0f} s{but}")
        if more:
            self._view.plain(more)

    def say_ending(self) -> None:
        """The first signal came."""
        names = ", ".join(c.service.name for c in self._children if not c.service.elsewhere)
        self._view.say(SELF, f"ending in order: {names}; another Ctrl-C kills what is left")

    def update(self, **more: str) -> None:
        """Write it, if something is different."""
        services = [child.facts() for child in self._children]
        if services == self._written and not more:
            return
        self._facts |= more
        try:
            write_state(self._home, {**self._facts, "services": services})
            self._written, self._lost = services, ""
        except OSError as error:  # a full disk ends nothing that runs
            if self._lost != str(error):
                self._view.say(SELF, f"`loop status` is out of date: {error}")
            self._lost = str(error)


def _until_told(children: list[Child], board: _Board, stop: list[int], when_ready: str) -> None:
    begun, told = time.monotonic(), False
    while not stop:
        for child in children:
            child.tick()
        board.update()
        if not told and all(child.state in ("ready", "waits", "elsewhere") for child in children):
            told = any(child.state == "ready" for child in children)
            if told:
                board.say_ready(time.monotonic() - begun, when_ready)
        time.sleep(TICK_S)


def _end(children: list[Child], board: _Board, stop: list[int]) -> None:
    board.update(ending="yes")
    board.say_ending()
    for child in children:
        child.end(lambda: len(stop) > 1)
        board.update()


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM comes. No signal cuts a clean-up short."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, note) for n in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
