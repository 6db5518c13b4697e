"""Feedback finds its trace, or waits for it.

Not here: what feedback is (``records.py``), and the rest of an import (``ingest.py``).

Feedback on a prompt id that is not in the store waits in ``quarantine`` and is joined in the
transaction that brings its trace, so the order in which files arrive does not matter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, select

from loop_pipeline.hashing import digest
from loop_pipeline.store.database import CHUNK, insert_new
from loop_pipeline.store.incoming.trace_names import Named, names_of, names_that_came, traces_named
from loop_pipeline.store.tables import FeedbackRow, QuarantineRow
from loop_pipeline.traces.quarantine.bad_lines import as_quarantined, quarantined
from loop_pipeline.traces.records import Feedback
from loop_pipeline.traces.storable import not_yet

WAITS = "feedback on a prompt id that is not in the store; it waits for its trace"
NO_REVIEWER = (
    "kind: a line of a log is no review, whoever it names; hand reviews in as a sheet"
    " (loop review import) or at the review desk, or vouch for the file: loop import --reviews"
)


def feedback_id(record: Feedback) -> str:
    """Names a piece of feedback by its content: the same words at the same moment are one row."""
    return digest(
        record.prompt_id,
        record.kind,
        str(record.value),
        record.edited_output or "",
        record.actor or "",
        record.ts.astimezone(dt.UTC).isoformat(),
    )[:32]


class Said(NamedTuple):
    """Feedback, its line, and whether the trace on the same line was refused (None: no trace)."""

    line: int
    record: Feedback
    refused: bool | None


def feedback_rows(
    connection: Connection,
    feedback: Sequence[Said],
    source: str,
    refused: Collection[str],
    *,
    reviews: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Sort feedback into rows of ``feedback``, and of ``quarantine``: what waits, what is wrong.

    Args:
        connection: of the transaction.
        feedback: of a batch.
        source: where they come from.
        refused: prompt ids whose traces were refused: what was said of the one that came is not
            said of the one that is stored.
        reviews: whether the source is one where reviewers speak.
    """
    named = traces_named(connection, {said.record.prompt_id for said in feedback})
    good, waiting, bad = [], [], []
    for line, record, own in feedback:
        meant = named.get(record.prompt_id)
        names = {record.prompt_id, meant.prompt_id if meant else None}
        elsewhere = not names.isdisjoint(refused) if own is None else own
        why = _wrong(record, meant, elsewhere)
        if record.kind == "review" and not reviews:
            why = NO_REVIEWER
        if why:
            bad.append(as_quarantined(source, line, why, record.line()))
        elif meant is None:
            waiting.append(_waits(source, line, record))
        else:
            good.append(_row(record, meant, source))
    return good, waiting, bad


def join_waiting(
    connection: Connection, traces: Sequence[dict[str, Any]] | None = None
) -> tuple[int, int]:
    """Move feedback whose trace is in the store out of quarantine.

    Args:
        connection: of the transaction that brings the traces.
        traces: on these; None: on all.

    Returns:
        How many were joined, and how many of those that waited are refused now.
    """
    if not _anything_waits(connection):
        return 0, 0
    names = names_that_came(connection) if traces is None else names_of(traces)
    found = _waiting_for(connection, names)
    named = traces_named(connection, {row["prompt_id"] for row in found})
    good, bad = [], []
    for row in found:
        record = Feedback.model_validate_json(row["raw"])
        meant = named[row["prompt_id"]]
        if why := _wrong(record, meant, False):
            bad.append(quarantined(row["source"], row["line"], why, row["raw"]))
        else:
            good.append(_row(record, meant, row["source"]))
    insert_new(connection, FeedbackRow, good)
    insert_new(connection, QuarantineRow, bad)
    table = QuarantineRow.__table__
    for start in range(0, len(found), CHUNK):
        done = [row["quarantine_id"] for row in found[start : start + CHUNK]]
        connection.execute(delete(QuarantineRow).where(table.c.quarantine_id.in_(done)))
    return len(good), len(bad)


def count_waiting(connection: Connection) -> int:
    """How much feedback waits."""
    waits = QuarantineRow.prompt_id.is_not(None)
    return connection.scalar(select(func.count()).select_from(QuarantineRow).where(waits)) or 0


def _anything_waits(connection: Connection) -> bool:
    waits = QuarantineRow.prompt_id.is_not(None)
    return connection.scalar(select(QuarantineRow.line).where(waits).limit(1)) is not None


def _waiting_for(connection: Connection, names: Iterable[str]) -> list[dict[str, Any]]:
    table = QuarantineRow.__table__
    every, found = sorted(names), []
    for start in range(0, len(every), CHUNK):
        chosen = table.c.prompt_id.in_(every[start : start + CHUNK])
        found += [dict(row) for row in connection.execute(select(table).where(chosen)).mappings()]
    return found


def _wrong(record: Feedback, meant: Named | None, refused: bool) -> str | None:
    """Why feedback counts on no trace; None if it does, or waits."""
    if why := not_yet(record.ts):
        return why
    if refused:
        return f"its trace was refused: another one is stored under {record.prompt_id}"
    if meant is None:
        return None
    if meant.prompt_id is None:
        return f"the answer id {record.prompt_id} names several traces"
    if record.app is not None and record.app != meant.app:
        return f"feedback of app {record.app!r} on a trace of another app"
    return None


def _row(record: Feedback, meant: Named, source: str) -> dict[str, Any]:
    named = record.model_copy(update={"prompt_id": meant.prompt_id})
    return named.model_dump(exclude={"app"}) | {
        "feedback_id": feedback_id(named),
        "source": source,
        "received_at": dt.datetime.now(dt.UTC),
    }


def _waits(source: str, line: int, record: Feedback) -> dict[str, Any]:
    row = quarantined(source, line, WAITS, record.model_dump_json())
    # Named by its content, not by its line: the same feedback waits once.
    name = digest("waits", feedback_id(record), *([record.app] if record.app else []))
    return row | {"quarantine_id": name[:32], "prompt_id": record.prompt_id}
