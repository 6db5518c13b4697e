"""The newest traces as they stand in the spool, before and while the store takes them.

Not here: who writes segments (``gateway/segments.py``), and what is in the store
(``figures``).
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from loop_pipeline.gateway.admin.figures.live_row import (
    Minutes,
    Sums,
    Totals,
    add_minutes,
    add_totals,
    counted,
    listed,
)
from loop_pipeline.store.incoming.live_sums import is_live

# The shipper commits every 2,000 lines: whole blocks are in the store, or none of them is.
BLOCK_LINES = 500
# Read at one look, so that a look takes a moment even if millions of traces wait.
MOST_BYTES = 16 * 1024**2
LISTED = 200
PLACES = 5_000


@dataclass
class Block:
    """Some lines of a segment: what they sum up to, and the last prompt id among them."""

    segment: str
    lines: int = 0
    traces: int = 0
    last_id: str | None = None
    totals: Totals = field(default_factory=dict)
    minutes: Minutes = field(default_factory=dict)


@dataclass
class _Segment:
    path: Path
    read: int = 0
    block: Block | None = None


@dataclass(frozen=True)
class Backlog:
    """What waits for the store; ``oldest_s``: age of its oldest file; ``unread``: bytes."""

    segments: int
    bytes: int
    oldest_s: float | None
    unread: int


class SpoolTail:
    """Reads each line of the spool once. Calls are made one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: dict[str, _Segment] = {}
        self._places: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        self._feedback: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._listed: dict[str, dict[str, Any]] = {}
        self.blocks: list[Block] = []
        self.bad_lines = 0

    def look(self) -> Backlog:
        """Read what is new, the newest segment first. Says what waits."""
        found = self._files()
        for name in [name for name in self._segments if name not in found]:
            del self._segments[name]
        left, unread, size = MOST_BYTES, 0, 0
        for name in sorted(found, reverse=True):
            own = self._segments.setdefault(name, _Segment(found[name]))
            own.path = found[name]
            length = _size(own.path)
            size += length
            until = min(length, own.read + max(left, 0))
            left -= self._read(name, own, until)
            unread += length - own.read if until < length else 0
        return Backlog(len(found), size, _age(min(found, default=None)), unread)

    def in_store(self, prompt_ids: Iterable[str]) -> None:
        """Forget the blocks whose last trace is in the store, and those that nobody has any more.

        Args:
            prompt_ids: which of the blocks' last ids are there.
        """
        there = set(prompt_ids)
        self.blocks = [
            b for b in self.blocks if b.last_id not in there and b.segment in self._segments
        ]

    def pending(self) -> tuple[Totals, Minutes, int]:
        """What the traces that are not in the store yet sum up to, by day and minute; how many."""
        totals: Totals = {}
        minutes: Minutes = {}
        for block in self.blocks:
            add_totals(totals, block.totals)
            add_minutes(minutes, block.minutes)
        return totals, minutes, sum(block.traces for block in self.blocks)

    def newest(self) -> list[dict[str, Any]]:
        """The newest requests, as the page lists them."""
        return list(self._listed.values())

    def trace(self, prompt_id: str) -> dict[str, Any] | None:
        """One trace, read from its segment again; None if the segment is gone."""
        place = self._places.get(prompt_id)
        segment = self._segments.get(place[0]) if place else None
        if place is None or segment is None:
            return None
        for path in (segment.path, *self._files().values()):
            if path.stem == place[0] and (raw := _piece(path, place[1], place[2])):
                return json.loads(raw)
        return None

    def besides(self, prompt_id: str) -> list[dict[str, Any]]:
        """Other answers to the same request."""
        names = [name for name in self._places if name.startswith(f"{prompt_id}~")]
        return [row for name in names if (row := self.trace(name))]

    def feedback(self, prompt_id: str) -> list[dict[str, Any]]:
        """Feedback on a trace that was seen here, oldest first."""
        return self._feedback.get(prompt_id, [])

    def _files(self) -> dict[str, Path]:
        files = [*self._folder.glob("*.open"), *self._folder.glob("*.jsonl")]
        return {path.stem: path for path in files}

    def _read(self, name: str, own: _Segment, until: int) -> int:
        """Read whole lines up to a place in the file. Returns how many bytes."""
        if until <= own.read or (raw := _piece(own.path, own.read, until - own.read)) is None:
            return 0
        whole = raw.rfind(b"\n") + 1
        if not whole and len(raw) >= MOST_BYTES:  # one line of that size: nothing to be shown
            own.read = until
            return len(raw)
        at = own.read
        for line in raw[:whole].split(b"\n")[:-1]:
            self._take(name, own, at, line)
            at += len(line) + 1
        own.read = at
        return whole

    def _take(self, name: str, own: _Segment, at: int, line: bytes) -> None:
        if own.block is None or own.block.lines >= BLOCK_LINES:
            own.block = Block(name)
            self.blocks.append(own.block)
        own.block.lines += 1
        try:
            row = orjson.loads(line)
            if "messages" not in row:
                self._take_feedback(row)
                return
            prompt_id = str(row["prompt_id"])
            own.block.last_id = prompt_id
            _keep(self._places, prompt_id, (name, at, len(line)), PLACES)
            if is_live(row):
                self._count(own.block, row)
        except (ValueError, TypeError, KeyError, AttributeError):
            # A torn or foreign line: the shipper puts it aside and says what is wrong with it.
            self.bad_lines += 1

    def _count(self, block: Block, row: dict[str, Any]) -> None:
        key, sums, minute = counted(row)
        block.totals.setdefault(key, Sums()).add(sums)
        if key.lane == "beside":
            return
        block.traces += 1
        add_minutes(block.minutes, {(minute, key.lane): 1})
        shown = listed(row)
        self._listed[shown["prompt_id"]] = shown
        if len(self._listed) > 2 * LISTED:
            newest = sorted(self._listed.values(), key=lambda r: r["ts"])[-LISTED:]
            self._listed = {r["prompt_id"]: r for r in newest}

    def _take_feedback(self, row: dict[str, Any]) -> None:
        known = self._feedback.get(str(row["prompt_id"]), [])
        _keep(self._feedback, str(row["prompt_id"]), [*known, row], PLACES)


def _keep(kept: OrderedDict[str, Any], name: str, value: Any, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


def _piece(path: Path, start: int, length: int) -> bytes | None:
    """Bytes of a file; None if it is gone, or was renamed a moment ago."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(length)
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _age(name: str | None) -> float | None:
    """Seconds since a segment was begun, which its name says."""
    if name is None:
        return None
    try:
        begun = dt.datetime.strptime(f"{name.split('-')[0]}+0000", "%Y%m%dT%H%M%S.%f%z")
    except ValueError:  # a file that somebody put there
        return None
    return max(0.0, time.time() - begun.timestamp())
