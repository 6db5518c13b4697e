"""Ends the loop's processes if the one that started them is gone, also after ``kill -9``.

Not here: the ordinary end, which ``keep_running`` brings about itself.

Run by ``loop up`` as ``python -m loop_pipeline.processes.watchdog``. It reads one JSON document a
line from its input: ``{"group": 123, "signal": 15, "seconds": 20}`` for a process group that
started, ``{"group": 123}`` for one that has ended. When the input ends, whoever wrote it is gone.
It also holds the home's lock until the last group has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from loop_pipeline.child_environment import child_environment


class Watchdog:
    """The caller's end: tells a watchdog process which groups there are.

    Args:
        lock: descriptor of the home's lock, which the watchdog holds as well.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._groups: dict[int, dict[str, int | float]] = {}
        self._process = self._start()

    def watch(self, group: int, number: signal.Signals, seconds: float) -> None:
        """A process group has started."""
        self._groups[group] = {"group": group, "signal": int(number), "seconds": seconds}
        self._tell(self._groups[group])

    def forget(self, group: int) -> None:
        """A process group has ended."""
        self._groups.pop(group, None)
        self._tell({"group": group})

    def close(self) -> None:
        """No group is left."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe().close()
        self._process.wait()

    def _tell(self, fact: dict[str, int | float]) -> None:
        try:
            self._write(fact)
        except BrokenPipeError:  # somebody ended it: another one takes over
            self._process.wait()
            self._process = self._start()
            for known in self._groups.values():
                self._write(known)

    def _write(self, fact: dict[str, int | float]) -> None:
        self._pipe().write(json.dumps(fact).encode() + b"\n")
        self._pipe().flush()

    def _pipe(self) -> Any:
        return self._process.stdin

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            start_new_session=True,  # Ctrl-C is not for it
            pass_fds=(self._lock,),
        )


def main() -> None:
    """Wait until nobody writes any more; end what is left, in the order of the list."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, dict[str, Any]] = {}
    for line in sys.stdin:
        fact = json.loads(line)
        if "signal" in fact:
            groups[fact["group"]] = fact
        else:
            groups.pop(fact["group"], None)
    # Each has been asked already, by the kernel; whoever cannot hear that is asked here.
    for fact in groups.values():
        _signal(fact["group"], fact["signal"])
    start = time.monotonic()
    for fact in groups.values():
        while time.monotonic() - start < fact["seconds"] and _signal(fact["group"], 0):
            time.sleep(0.05)
        _signal(fact["group"], signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether the group was there."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
