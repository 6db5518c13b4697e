"""What a key has used up, in a file that all workers of a gateway share.

Not here: how much it may use (``limits.py``).

Each change is read, made and written under a lock of the file. Who is killed meanwhile gives the
lock back, and what a dead worker was answering is taken out by the parent.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson

FOLDER = "limits"
MINUTE_S, DAY_S = 60.0, 86_400.0
# Requests of so many seconds are counted together: a minute is right to that.
TOGETHER_S = 0.5
# Of a file, always the same: one write replaces what was there. The minute takes 2 KiB at most, and
# a worker 14 bytes.
SIZE = 4096
# Of a key that nobody has used since.
OLD_S = 2 * DAY_S

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass
class UsedUp:
    """Of one key: USD of a day, requests of the last minute, and those that go on, by process."""

    day: int = 0
    usd: float = 0.0
    asked: list[tuple[float, int]] = field(default_factory=list)
    going_on: dict[str, int] = field(default_factory=dict)

    def until(self, now: float, day: int) -> None:
        """Forget what is over: requests of more than a minute ago, and the day before."""
        # Later than now: the machine was started anew since.
        self.asked = [(at, n) for at, n in self.asked if now - MINUTE_S < at <= now]
        if day != self.day:
            self.day, self.usd = day, 0.0

    def begin(self, now: float, usd: float) -> None:
        """Count a request of this process in."""
        at = now // TOGETHER_S * TOGETHER_S
        same = self.asked.pop()[1] if self.asked and self.asked[-1][0] == at else 0
        self.asked.append((at, same + 1))
        self.usd += usd
        own = str(os.getpid())
        self.going_on[own] = self.going_on.get(own, 0) + 1

    def end(self, usd: float) -> None:
        """Count it out; ``usd`` is what it cost more than was reserved."""
        own = str(os.getpid())
        self.going_on[own] = self.going_on.get(own, 0) - 1
        if self.going_on[own] <= 0:
            del self.going_on[own]
        self.usd = max(0.0, self.usd + usd)


class SharedUse:
    """What one key has used up; without a file, and while it cannot be written, in this process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._own, self._failed = path, UsedUp(), False

    def change(self, do: Callable[[UsedUp], T]) -> T:
        """Do it to what all workers count. What it raises leaves all as it was."""
        if self._path is None:
            return do(self._own)
        try:
            return _change(self._path, do)
        except OSError as error:
            if not self._failed:
                _log.error("%s: %s; each worker counts a key's use for itself", self._path, error)
            self._failed = True
            return do(self._own)


def start_anew(folder: Path) -> None:
    """Before the first worker: nothing goes on. What was asked and paid for today stays."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in folder.glob("*.json"):
        if time.time() - path.stat().st_mtime > OLD_S:
            path.unlink()
        else:
            _change(path, lambda used: used.going_on.clear())


def forget(folder: Path, pid: int) -> None:
    """A worker is gone: nobody waits for what it was answering."""
    for path in folder.glob("*.json"):
        _change(path, lambda used: used.going_on.pop(str(pid), None))


def _change(path: Path, do: Callable[[UsedUp], T]) -> T:
    # Opened for each change: there may be more keys than a process may have files.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        used = _read(os.pread(file, SIZE, 0))
        result = do(used)
        os.pwrite(file, orjson.dumps(used).ljust(SIZE), 0)
        return result
    finally:
        os.close(file)


def _read(text: bytes) -> UsedUp:
    """What a file says; nothing is used up where it is new, or torn by a power cut."""
    try:
        found = orjson.loads(text)
        asked = [(float(at), int(n)) for at, n in found["asked"]]
        going_on = {str(pid): int(n) for pid, n in found["going_on"].items()}
        return UsedUp(int(found["day"]), float(found["usd"]), asked, going_on)
    except (ValueError, TypeError, LookupError, AttributeError):
        return UsedUp()
