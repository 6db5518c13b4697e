"""Segment files of the spool: made, locked, sealed, adopted, counted and dropped.

Not here: who writes lines into them (``capture.py``), and who takes them away (``ship.py``).

A segment is ``<utc>-<pid>-<n>.open`` while a process writes it, and ``.jsonl`` once it is sealed.
Who holds the lock on its file writes it: a process id says nothing, it may be another's by now.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

OPEN, SEALED = ".open", ".jsonl"
# Of this process; with its id it makes a name that no other segment has.
_number = itertools.count()
_last = 0


class Segment:
    """A segment that this process writes. Its lines are whole, whatever goes wrong."""

    def __init__(self, folder: Path) -> None:
        """Make a new one in the folder, which is made too if need be.

        Raises:
            OSError: no file can be made there.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            self.path = folder / f"{_stamp()}-{os.getpid()}-{next(_number)}{OPEN}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self.fd = os.open(self.path, flags, 0o600)
            # Before the lock is held an adopter may take the empty file for a dead process's.
            if _locked(self.fd) and os.fstat(self.fd).st_nlink:
                break
            os.close(self.fd)
        self.size = 0
        self.torn = False
        self.made = time.monotonic()
        self._named = False

    def append(self, line: bytes) -> None:
        """Write a whole line, or leave the file as it was.

        Raises:
            OSError: no space, or the disk does not work. If ``torn`` is set then, a part of the
                line could not be taken back: no other line may follow.
        """
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            try:
                os.ftruncate(self.fd, self.size)
            except OSError:
                self.torn = True
            raise
        self.size += len(line)

    def sync(self) -> None:
        """Bring what was written to the disk.

        Raises:
            OSError: the disk does not work.
        """
        os.fdatasync(self.fd)
        if not self._named:
            sync_folder(self.path.parent)
            self._named = True

    def seal(self) -> None:
        """Give the segment its last name, on disk, and close it; an empty one goes.

        Raises:
            OSError: the disk does not work; it can be called again.
        """
        if not self.size:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():
            os.fdatasync(self.fd)
            self.path.replace(self.path.with_suffix(SEALED))
        # A segment that is gone was taken away by a person: nothing is left to seal.
        sync_folder(self.path.parent)
        os.close(self.fd)


def adopt(folder: Path) -> int:
    """Seal the segments whose writers are dead. Returns how many there were.

    Raises:
        OSError: the disk does not work.
    """
    adopted = 0
    for path in sorted(folder.glob(f"*{OPEN}")):
        with _locked_file(path) as fd:
            if fd is None:
                continue
            if not os.fstat(fd).st_size:
                path.unlink()
                continue
            os.fsync(fd)
            path.replace(path.with_suffix(SEALED))
            adopted += 1
    if adopted:
        sync_folder(folder)
    return adopted


def sealed(folder: Path) -> list[Path]:
    """The sealed segments, oldest first."""
    return sorted(folder.glob(f"*{SEALED}"))


def backlog(folder: Path) -> int:
    """Bytes of the traces that wait for the store."""
    total = 0
    for path in [*folder.glob(f"*{SEALED}"), *folder.glob(f"*{OPEN}")]:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def drop_oldest(folder: Path, most: int) -> tuple[int, int]:
    """Delete the oldest sealed segments until the backlog is not over ``most`` bytes.

    One that the shipper reads is left to it.

    Returns:
        How many segments and how many lines were dropped.
    """
    segments = lines = 0
    over = backlog(folder) - most
    for path in sealed(folder):
        if over <= 0:
            break
        with _locked_file(path) as fd:
            if fd is None:
                continue
            size = os.fstat(fd).st_size
            lines += _count_lines(fd)
            path.unlink()
            segments, over = segments + 1, over - size
    return segments, lines


def sync_folder(folder: Path) -> None:
    """Bring new, renamed and deleted names in a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked_file(path: Path) -> Iterator[int | None]:
    """The file, locked; None if another process holds it, or has renamed or deleted it."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd if _locked(fd) and _is_still(path, fd) else None
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, fd: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _count_lines(fd: int) -> int:
    return sum(block.count(b"\n") for block in iter(lambda: os.read(fd, 1 << 20), b""))


def _stamp() -> str:
    """The time, in UTC; never before the last one, though the clock is set back."""
    global _last
    _last = max(time.time_ns() // 1000, _last + 1)
    moment = dt.datetime.fromtimestamp(_last / 1e6, dt.UTC)
    return moment.strftime("%Y%m%dT%H%M%S.%f")
