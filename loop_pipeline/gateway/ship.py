"""Brings sealed segments of the spool into the store, and deletes them once they are there.

Not here: who writes them (``capture.py``), and the import itself (``traces/ingest.py``).

At least once, and by id once: a segment goes after the commit, so that a shipper that is killed
leaves it to be imported again, which changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.gateway.segments import adopt, backlog, sealed, sync_folder
from loop_pipeline.masking import mask_secrets
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.jsonl import BadLine, Record, read_jsonl
from loop_pipeline.traces.ingest import import_records

SOURCE = "gateway"
LOCK = "ship.lock"
SET_ASIDE = ".refused"
# Segments that go into one import, whichever is reached first.
TAKE_BYTES = 32 * 1024**2
TAKE_FILES = 256
# Between two looks into the spool, and two lines of progress.
LOOK_SECONDS = 0.5
SAY_SECONDS = 10.0
# A store that does not answer is tried again after 1, 2, 4, ... seconds.
LONGEST_WAIT = 30.0

T = TypeVar("T")
Bring = Callable[[Iterable[tuple[int, Record]]], Imported]


@dataclass
class Shipped:
    """What was brought in."""

    imported: Imported = field(default_factory=Imported)
    segments: int = 0
    torn: int = 0
    """Last lines that were not written whole: their answers were never sent whole."""
    set_aside: int = 0

    def __str__(self) -> str:
        """One line for people."""
        torn = f", {self.torn} torn last lines of killed processes left out" if self.torn else ""
        aside = f", {self.set_aside} segments set aside" if self.set_aside else ""
        return f"{self.segments} segments: {self.imported}{torn}{aside}"


def ship(
    open_engine: Callable[[], Engine],
    spool: Path,
    *,
    once: bool,
    say: Callable[[str], object],
    secret: Callable[[], bytes] | None = None,
    prices: Prices = LIST_PRICES,
) -> Shipped:
    """Bring in what is sealed, oldest first, and what comes; with ``once`` until nothing is left.

    Args:
        open_engine: opens the store; it may be down then.
        spool: folder of the segments.
        once: end when there is nothing left.
        say: takes lines for people.
        secret: as for ``import_records``; the gateway itself writes hashes of users only.
        prices: of traces that say no cost; the gateway itself writes what each answer billed.

    Raises:
        RuntimeError: another process ships this spool.
        StoreError: the store cannot be used as it is.
    """
    done, said, told = Shipped(), time.monotonic(), 0
    with _alone(spool):
        engine = _patiently(open_engine, spool, say)
        bring = partial(import_records, engine, source=SOURCE, secret=secret, prices=prices)
        while True:
            adopt(spool)
            took = _patiently(lambda: _take_next(bring, spool, done, say), spool, say)
            if not took and once:
                break
            if not took:
                time.sleep(LOOK_SECONDS)
            if time.monotonic() - said >= SAY_SECONDS and done.segments > told:
                said, told = time.monotonic(), done.segments
                say(f"{done}; {backlog(spool) / 1e6:.1f} MB wait")
    return done


@contextmanager
def _alone(spool: Path) -> Iterator[None]:
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (spool / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another loop ship works on {spool}; one is enough") from None
        yield


def _patiently(do: Callable[[], T], spool: Path, say: Callable[[str], object]) -> T:
    """Do it, and again while the store is down: the traces wait in their files."""
    wait = 1.0
    while True:
        try:
            result = do()
        except DBAPIError as error:
            reason = mask_secrets(str(error.orig).strip().partition("\n")[0])
            if wait == 1.0:
                size = backlog(spool) / 1e6
                say(f"the store does not take traces ({reason}); {size:.1f} MB wait in {spool}")
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            continue
        if wait > 1.0:
            say("the store takes traces again")
        return result


def _take_next(bring: Bring, spool: Path, done: Shipped, say: Callable[[str], object]) -> bool:
    """Bring in the oldest segments; False: there are none."""
    paths = _next(spool)
    try:
        if paths:
            _take(bring, paths, done, say)
    except FileNotFoundError:
        # Capture has dropped a segment just now, to make room: the others are there.
        return True
    return bool(paths)


def _next(spool: Path) -> list[Path]:
    """The oldest segments, as many as one import takes."""
    taken, size = [], 0
    for path in sealed(spool)[:TAKE_FILES]:
        size += path.stat().st_size if path.exists() else 0
        if taken and size > TAKE_BYTES:
            break
        taken.append(path)
    return taken


def _take(bring: Bring, paths: Sequence[Path], done: Shipped, say: Callable[[str], object]) -> None:
    """Import segments and delete them; one that cannot be imported is set aside."""
    try:
        imported, torn = _import(bring, paths)
    except (DBAPIError, FileNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001  whatever a segment holds, the others go on
        if len(paths) > 1:
            for path in paths:
                _take(bring, [path], done, say)
            return
        reason = mask_secrets(f"{type(error).__name__}: {error}")
        _set_aside(paths[0])
        done.set_aside += 1
        say(f"{paths[0].name} cannot be imported ({reason}); set aside as *{SET_ASIDE}")
        return
    for path in paths:
        path.unlink(missing_ok=True)
    sync_folder(paths[0].parent)
    done.segments += len(paths)
    done.torn += torn
    done.imported.add(imported)
    done.imported.waiting = imported.waiting


def _set_aside(path: Path) -> None:
    path.replace(path.with_name(path.name + SET_ASIDE))


def _import(bring: Bring, paths: Sequence[Path]) -> tuple[Imported, int]:
    torn: list[Path] = []
    with ExitStack() as reading:
        # Whoever makes room in a spool that is too large leaves these.
        for path in paths:
            file = reading.enter_context(path.open("rb"))
            fcntl.flock(file, fcntl.LOCK_SH)
        # Line 0: which segment a line stood in says nothing once the segment is gone, and the same
        # bad line twice is one row.
        records = ((0, record) for path in paths for record in _records(path, torn))
        return bring(records), len(torn)


def _records(path: Path, torn: list[Path]) -> Iterator[Record]:
    """The records of a segment, without a last line that was not written whole."""
    last: Record | None = None
    for _, record in read_jsonl(path):
        if last is not None:
            yield last
        last = record
    if isinstance(last, BadLine) and not _ends_whole(path):
        torn.append(path)
    elif last is not None:
        yield last


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
