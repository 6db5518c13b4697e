"""Capture: a trace is in a file before the last byte of its answer goes out.

Not here: what a trace holds (``trace_row.py``), the files themselves (``segments.py``), and how
they come into the store (``ship.py``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from loop_pipeline.gateway.segments import Segment, adopt, backlog, drop_oldest

# A segment is handed on at this size or age, whichever comes first.
SEAL_BYTES = 8 * 1024**2
SEAL_SECONDS = 5.0
# Between two looks at the size of the spool, and two tries of a disk that did not work; longer
# where a look takes longer than this share of the time.
LOOK_SECONDS = 1.0
LOOK_SHARE = 0.02
# What has to fit on the disk for it to be tried again.
PROBE_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


class CaptureLost(OSError):
    """A trace could not be written down; it is counted."""


class Capture:
    """Writes the lines of one process. ``write`` is called in one thread, that of the requests.

    ``lost``: traces that could not be written. ``dropped``: lines that went because the backlog
    was too large. ``backlog``: bytes that wait for the store, a second old at most.
    """

    def __init__(self, folder: Path, *, sync_ms: float, max_bytes: int) -> None:
        """Seal what dead processes left, and start the thread that syncs.

        Args:
            folder: the spool.
            sync_ms: between two syncs to the disk; 0: ``synced`` waits for one.
            max_bytes: of traces that wait; then the oldest sealed segments go.
        """
        self._folder, self._sync_ms, self._max_bytes = folder, sync_ms, max_bytes
        self.writable, self.lost, self.dropped, self.backlog = True, 0, 0, 0
        self._segment: Segment | None = None
        self._full: list[Segment] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._lock = threading.Lock()  # of the four above; never held while the disk is waited for
        self._dirty, self._ending = False, False
        self._wake = threading.Event()
        self._next_look = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            adopt(folder)
        except OSError as error:
            self._broken(error)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one trace or piece of feedback, in the format of ``loop import``.

        Raises:
            CaptureLost: it could not be written; the file is as it was before.
        """
        line = _line(row)
        with self._lock:
            try:
                if self._segment is None:
                    self._segment = Segment(self._folder)
                self._segment.append(line)
            except OSError as error:
                self.lost += 1
                self._broken(error)
                if self._segment and self._segment.torn:
                    self._full.append(self._segment)
                    self._segment = None
                raise CaptureLost(f"a trace could not be written: {error}") from error
            if self._segment.size >= SEAL_BYTES:
                self._full.append(self._segment)
                self._segment = None
        if not self.writable:
            self._works_again()
        if not self._dirty:
            self._dirty = True
            if self._sync_ms > 0:  # else whoever waits for the disk wakes the thread
                self._wake.set()

    async def synced(self) -> None:
        """With ``sync_ms`` 0: return once all that was written before is on the disk.

        Raises:
            CaptureLost: the disk does not work.
        """
        if self._sync_ms > 0:
            return
        done = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiters.append(done)
        self._wake.set()
        await done

    def close(self) -> None:
        """Sync and seal what was written, and end the thread."""
        self._ending = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._rest())
            self._wake.clear()
            if not self._ending and self._sync_ms > 0 and self._dirty:
                time.sleep(self._sync_ms / 1000)
            ending, dirty, self._dirty = self._ending, self._dirty, False
            try:
                self._round(ending, dirty)
                self._look()
            except OSError as error:
                self._dirty = True
                self._broken(error)
            except Exception:  # noqa: BLE001  without this thread nothing would be sealed any more
                _log.exception("loop: capture went wrong; it goes on")
            if ending:
                return

    def _rest(self) -> float:
        """Seconds until something is due though nothing is written."""
        segment = self._segment
        due = segment.made + SEAL_SECONDS - time.monotonic() if segment else LOOK_SECONDS
        return min(max(due, 0.001), LOOK_SECONDS)

    def _round(self, ending: bool, dirty: bool) -> None:
        """Sync, and seal what is full or old."""
        with self._lock:
            waiters, self._waiters = self._waiters, []
            segment = self._segment
            if segment and (ending or time.monotonic() - segment.made >= SEAL_SECONDS):
                self._full.append(segment)
                self._segment = segment = None
            full = list(self._full)
        try:
            for each in full:
                each.seal()
                with self._lock:
                    self._full.remove(each)
            if segment and dirty:
                segment.sync()
        except OSError as error:
            _resolve(waiters, error)
            raise
        _resolve(waiters, None)

    def _look(self) -> None:
        """Count what waits, and keep the spool within its limit."""
        began = time.monotonic()
        if began < self._next_look:
            return
        self._next_look = began + LOOK_SECONDS
        if not self.writable:
            self._probe()
        self.backlog = backlog(self._folder)
        if self.backlog > self._max_bytes:
            segments, lines = drop_oldest(self._folder, self._max_bytes)
            self.dropped += lines
            if segments:
                _log.error(
                    "loop: %d lines in %d segments were dropped: the spool is over %d bytes, the "
                    "store does not take them (is `loop ship` running?)",
                    *(lines, segments, self._max_bytes),
                )
        took = time.monotonic() - began
        self._next_look = began + max(LOOK_SECONDS, took / LOOK_SHARE)

    def _probe(self) -> None:
        """Try the disk: where nothing may be answered without a trace, no write would find out."""
        path = self._folder / f".probe-{os.getpid()}"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with path.open("wb") as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)
        self._works_again()

    def _works_again(self) -> None:
        self.writable = True
        _log.warning("loop: traces can be written again (%d were lost)", self.lost)

    def _broken(self, error: OSError) -> None:
        if self.writable:
            _log.error("loop: traces cannot be written to %s: %s", self._folder, error)
        self.writable = False


def _line(row: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Half a character, as cutting an emoji leaves, or a number of more than 64 bits.
        text = json.dumps(row, ensure_ascii=False, default=str)
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.encode() + b"\n"


def _resolve(waiters: list[asyncio.Future[None]], problem: OSError | None) -> None:
    """Tell those who wait for the disk, in their own event loop."""

    def tell(mine: list[asyncio.Future[None]]) -> None:
        for waiter in mine:
            if waiter.done():
                continue
            if problem is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(CaptureLost(f"a trace is not on the disk: {problem}"))

    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        by_loop.setdefault(waiter.get_loop(), []).append(waiter)
    for loop, mine in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, mine)
