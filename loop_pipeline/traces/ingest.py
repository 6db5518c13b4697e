"""Records into the store: twice the same is once, and nothing is dropped without a reason.

Not here: reading files (``importers``), and how feedback finds its trace (``feedback_joins.py``).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, StatementError

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.costs.unpriced import unpriced_as
from loop_pipeline.installation_secret import user_hash
from loop_pipeline.store.database import insert_new
from loop_pipeline.store.incoming.live_sums import count_live
from loop_pipeline.store.incoming.refused_rows import is_the_rows_fault, said_of, was_in_the_way
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.feedback_joins import count_waiting, feedback_rows, join_waiting
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.batches import TRACES, Batch, in_batches, line_of, said_in
from loop_pipeline.traces.importers.import_files import read_file
from loop_pipeline.traces.importers.jsonl import BadLine, Note, Record
from loop_pipeline.traces.quarantine.bad_lines import (
    a_row_a_line,
    as_quarantined,
    keep_bad_lines,
    quarantined,
)
from loop_pipeline.traces.trace_inserts import insert_batch

# Of a batch that another import was in the way of.
TRIES = 5


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
    bad: dict[str, str] | None = None
    """Of lines that are tried again: why those are bad that still are, by quarantine id."""


@dataclass
class Again:
    """What an import of lines from the quarantine knows, and what it finds."""

    refused: set[str]
    """Prompt ids whose traces contradicted what was stored when their file came."""
    bad: dict[str, str] = field(default_factory=dict)
    """Why those are bad that still are, by quarantine id."""


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
    again: Again | None = None,
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
        again: where the records come from the quarantine; it is told which are still bad.
        prices: of traces that say no cost.

    Raises:
        NoSecret: a trace names a user, and there is no ``secret``.
    """
    total, shared = Imported(), _Import(source, _user_hasher(secret), reviews, prices)
    if again is not None:
        shared.refused |= again.refused
        shared.bad = again.bad
    for batch in in_batches(records):
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


def _import_what_can_be(engine: Engine, batch: Batch, shared: _Import) -> Imported:
    """Import a batch; what the database refuses is found by halving and goes to quarantine."""
    try:
        return _in_one_transaction(engine, batch, shared)
    except (StatementError, ValueError, OverflowError) as error:
        if not is_the_rows_fault(error):
            raise
        reason = f"the database refuses it: {said_of(error)}"
    if len(batch) > 1:
        done, half = Imported(), len(batch) // 2
        for part in (batch[:half], batch[half:]):
            done.add(_import_what_can_be(engine, part, shared))
        return done
    line, record = batch[0]
    bad = [as_quarantined(shared.source, line, reason, line_of(record))]
    with engine.begin() as connection:
        return _count_quarantined(connection, bad, shared)


def _in_one_transaction(engine: Engine, batch: Batch, shared: _Import) -> Imported:
    for _ in range(TRIES - 1):
        try:
            with engine.begin() as connection:
                return _import_batch(connection, batch, shared)
        except DBAPIError as error:
            if not was_in_the_way(error):
                raise
    with engine.begin() as connection:
        return _import_batch(connection, batch, shared)


def _import_batch(connection: Connection, batch: Batch, shared: _Import) -> Imported:
    traces = [(n, record) for n, record in batch if isinstance(record, TRACES)]
    found = insert_batch(connection, traces, shared.source, shared.hash_user, shared.prices)
    shared.refused |= found.refused
    bad = found.bad + [
        quarantined(shared.source, line, record.reason, record.raw)
        for line, record in batch
        if isinstance(record, BadLine)
    ]
    said = list(said_in(batch, found.refused_records))
    rows, waiting, wrong = feedback_rows(
        connection, said, shared.source, shared.refused, reviews=shared.reviews
    )
    done = _count_quarantined(connection, bad + wrong, shared)
    done.traces, done.traces_known = len(found.new), len(found.rows) - len(found.new)
    done.feedback = insert_new(connection, FeedbackRow, rows)
    done.feedback_known = len({row["feedback_id"] for row in rows}) - done.feedback
    insert_new(connection, QuarantineRow, waiting)
    done.notes = dict(Counter(r.text for _, r in batch if isinstance(r, Note)))
    done.unpriced = dict(Counter(filter(None, map(unpriced_as, found.rows.values()))))
    done.days = dict(Counter(row["day"] for row in found.rows.values()))
    done.joined, refused = join_waiting(connection, list(found.rows.values()))
    done.quarantined += refused
    count_live(connection, found.new)
    return done


def _count_quarantined(
    connection: Connection, bad: list[dict[str, Any]], shared: _Import
) -> Imported:
    rows = a_row_a_line(bad)
    if shared.bad is not None:
        shared.bad |= {row["quarantine_id"]: row["reason"] for row in rows}
    new, known = keep_bad_lines(connection, rows)
    return Imported(quarantined=new, quarantined_known=known)
