"""Records into the store: twice the same is once, and nothing is dropped without a reason.

Not here: reading files (``importers``), and how feedback finds its trace (``feedback_joins.py``).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.costs.unpriced import unpriced_as
from loop_pipeline.installation_secret import user_hash
from loop_pipeline.store.database import insert_new
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.feedback_joins import (
    Said,
    count_waiting,
    feedback_rows,
    join_waiting,
    quarantined,
)
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.import_files import read_file
from loop_pipeline.traces.importers.jsonl import BadLine, Note, Record
from loop_pipeline.traces.records import Feedback, Trace
from loop_pipeline.traces.trace_inserts import as_quarantined, insert_batch
from loop_pipeline.traces.trace_lines import TraceLine

BATCH = 2000
# Of lines in one transaction, whichever is reached first.
BATCH_BYTES = 32 * 1024**2
TRACES = (TraceLine, Trace)
Batch = Sequence[tuple[int, Record]]


@dataclass
class _Import:
    """What the batches of one import share."""

    source: str
    hash_user: Callable[[str], str]
    reviews: bool
    """Whether a line may be a reviewer's verdict: whoever writes a log is no reviewer."""
    prices: Prices
    refused: set[str] = field(default_factory=set)
    """Prompt ids whose traces contradict what is stored: what is said of them counts nowhere."""


class NoSecret(RuntimeError):
    """A trace names a user, and nothing was handed in that makes a hash of the name."""


def import_file(
    engine: Engine,
    path: Path,
    progress: Callable[[Imported], None] | None = None,
    *,
    secret: Callable[[], bytes] | None = None,
    reviews: bool = False,
    zone: dt.tzinfo = dt.UTC,
    prices: Prices = LIST_PRICES,
) -> Imported:
    """Import JSON lines, or one JSON document, packed or not. The same file twice: the same rows.

    Each batch is one transaction: an import that is killed can simply be run again.

    Args:
        engine: the store.
        path: the file.
        progress: told after each batch what was done so far.
        secret: see ``import_records``.
        reviews: whether its lines may be reviewers' verdicts, because reviewers wrote them.
        zone: of times that name none.
        prices: of traces that say no cost.

    Raises:
        FileNotFoundError: there is no such file.
        NoSecret: see ``import_records``.
        UnreadableFile: it holds no traces and no feedback. Nothing was imported.
    """
    records = read_file(path, zone)
    return import_records(
        engine,
        records,
        source=path.name,
        secret=secret,
        progress=progress,
        reviews=reviews,
        prices=prices,
    )


def import_records(
    engine: Engine,
    records: Iterable[tuple[int, Record]],
    *,
    source: str,
    secret: Callable[[], bytes] | None = None,
    progress: Callable[[Imported], None] | None = None,
    reviews: bool = False,
    prices: Prices = LIST_PRICES,
) -> Imported:
    """Import (line, record) pairs under the name of their source.

    Args:
        engine: the store.
        records: as they were read.
        source: where they come from.
        secret: gives the secret of the installation (``LoopSettings.secret``), by which names of
            users become hashes; asked once, and only if a trace names a user.
        progress: told after each batch what was done so far.
        reviews: whether reviewers speak here. Elsewhere what calls itself a review is quarantined.
        prices: of traces that say no cost.

    Raises:
        NoSecret: a trace names a user, and there is no ``secret``.
    """
    total, shared = Imported(), _Import(source, _user_hasher(secret), reviews, prices)
    for batch in _batches(records):
        total.add(_import_what_can_be(engine, batch, shared))
        if progress:
            progress(total)
    with engine.begin() as connection:
        # A trace and its feedback may have come at the same moment by two imports.
        joined, refused = join_waiting(connection)
        total.add(Imported(joined=joined, quarantined=refused, waiting=count_waiting(connection)))
    return total


def _user_hasher(secret: Callable[[], bytes] | None) -> Callable[[str], str]:
    if secret is None:
        return _no_secret
    once = lru_cache(maxsize=1)(secret)
    return lru_cache(maxsize=10_000)(lambda user: user_hash(once(), user))


def _no_secret(_user: str) -> str:
    raise NoSecret("a trace names a user: hand in the secret of the installation (settings.secret)")


def _batches(records: Iterable[tuple[int, Record]]) -> Iterator[list[tuple[int, Record]]]:
    batch: list[tuple[int, Record]] = []
    size = 0
    for line, record in records:
        batch.append((line, record))
        size += len(record.raw) if isinstance(record, TraceLine | BadLine) else 0
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _import_what_can_be(engine: Engine, batch: Batch, shared: _Import) -> Imported:
    """Import a batch; what the database refuses is found by halving and goes to quarantine."""
    try:
        with engine.begin() as connection:
            return _import_batch(connection, batch, shared)
    except (StatementError, ValueError, OverflowError) as error:
        if not _is_the_rows_fault(error):
            raise
        reason = f"the database refuses it: {_first_line(error)}"
    if len(batch) > 1:
        done, half = Imported(), len(batch) // 2
        for part in (batch[:half], batch[half:]):
            done.add(_import_what_can_be(engine, part, shared))
        return done
    line, record = batch[0]
    bad = [as_quarantined(shared.source, line, reason, _raw(record))]
    with engine.begin() as connection:
        return _count_quarantined(connection, bad)


def _is_the_rows_fault(error: Exception) -> bool:
    """Whether other rows could be stored: the data is wrong, not the database away or full."""
    if not isinstance(error, DBAPIError):
        return True  # a value that the driver cannot pass on
    if isinstance(error, DataError | IntegrityError):
        return True
    # PostgreSQL: data, constraints, limits of the program (a key too long for its index).
    code = getattr(error.orig, "pgcode", None) or ""
    return code[:2] in ("22", "23", "54")


def _first_line(error: Exception) -> str:
    said = str(getattr(error, "orig", None) or error).strip()
    return said.partition("\n")[0]


def _import_batch(connection: Connection, batch: Batch, shared: _Import) -> Imported:
    traces = [(n, record) for n, record in batch if isinstance(record, TRACES)]
    found = insert_batch(connection, traces, shared.source, shared.hash_user, shared.prices)
    shared.refused |= found.refused
    bad = found.bad + [
        quarantined(shared.source, line, record.reason, record.raw)
        for line, record in batch
        if isinstance(record, BadLine)
    ]
    said = list(_said(batch, found.refused_records))
    rows, waiting, wrong = feedback_rows(
        connection, said, shared.source, shared.refused, reviews=shared.reviews
    )
    done = _count_quarantined(connection, bad + wrong)
    done.traces, done.traces_known = found.new, len(found.rows) - found.new
    done.feedback = insert_new(connection, FeedbackRow, rows)
    done.feedback_known = len({row["feedback_id"] for row in rows}) - done.feedback
    insert_new(connection, QuarantineRow, waiting)
    done.notes = dict(Counter(r.text for _, r in batch if isinstance(r, Note)))
    done.unpriced = dict(Counter(filter(None, map(unpriced_as, found.rows.values()))))
    done.days = dict(Counter(row["day"] for row in found.rows.values()))
    done.joined, refused = join_waiting(connection, list(found.rows.values()))
    done.quarantined += refused
    return done


def _said(batch: Batch, refused: set[int]) -> Iterator[Said]:
    """The feedback of a batch; what stands on the line of a trace shares its fate."""
    trace: tuple[int, TraceLine | Trace] | None = None
    for line, record in batch:
        if isinstance(record, TRACES):
            trace = (line, record)
        elif isinstance(record, Feedback):
            own = trace and trace[0] == line and trace[1].prompt_id == record.prompt_id
            yield Said(line, record, id(trace[1]) in refused if trace and own else None)


def _count_quarantined(connection: Connection, bad: list[dict[str, Any]]) -> Imported:
    new = insert_new(connection, QuarantineRow, bad)
    return Imported(quarantined=new, quarantined_known=len(bad) - new)


def _raw(record: Record) -> bytes:
    if isinstance(record, TraceLine):
        return record.raw
    if isinstance(record, BadLine):
        return record.raw.encode()
    if isinstance(record, Note):
        return record.text.encode()
    return record.model_dump_json().encode()
