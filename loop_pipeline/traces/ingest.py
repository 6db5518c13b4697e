"""Records into the store: twice the same is once, and nothing is dropped without a reason.

Not here: reading files (``importers``).

Feedback on a prompt id that is not in the store waits in ``quarantine`` and is joined in the
transaction that brings its trace, so the order in which files arrive does not matter.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine, delete, func, select

from loop_pipeline.hashing import digest
from loop_pipeline.store.database import CHUNK, insert_new
from loop_pipeline.store.tables import ContractRow, FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.store.traces import stored_outputs
from loop_pipeline.traces.importers.jsonl import BadLine, Record, read_jsonl
from loop_pipeline.traces.records import Feedback, Trace

BATCH = 2000
WAITS = "feedback on a prompt id that is not in the store; it waits for its trace"


class Imported(BaseModel):
    """What an import did."""

    traces: int = 0
    traces_known: int = 0
    feedback: int = 0
    feedback_known: int = 0
    quarantined: int = 0
    quarantined_known: int = 0
    waiting: int = 0
    """Feedback in the store, of this import or an earlier one, whose trace has not come yet."""
    joined: int = 0
    """Feedback that had waited and whose trace has come now; not counted in ``feedback``."""

    def __str__(self) -> str:
        """One line for people."""
        traces = f"{self.traces} new traces ({self.traces_known} were there)"
        joined = f", {self.joined} feedback joined to traces they waited for" if self.joined else ""
        return f"{traces}, {self.feedback_only()}{joined}"

    def feedback_only(self) -> str:
        """One line for an import that brings no traces."""
        waiting = f", {self.waiting} feedback still wait for their trace" if self.waiting else ""
        return (
            f"{self.feedback} new feedback ({self.feedback_known} were there), "
            f"{self.quarantined} lines quarantined ({self.quarantined_known} were there){waiting}"
        )


def import_file(
    engine: Engine, path: Path, progress: Callable[[Imported], None] | None = None
) -> Imported:
    """Import a JSON-lines file. The same file twice gives the same rows.

    Each batch is one transaction: an import that is killed can simply be run again.

    Raises:
        FileNotFoundError: there is no such file.
    """
    return import_records(engine, read_jsonl(path), source=path.name, progress=progress)


def import_records(
    engine: Engine,
    records: Iterable[tuple[int, Record]],
    *,
    source: str,
    progress: Callable[[Imported], None] | None = None,
) -> Imported:
    """Import (line, record) pairs under the name of their source."""
    total = Imported()
    for batch in _batches(records):
        with engine.begin() as connection:
            _import_batch(connection, batch, source, total)
        if progress:
            progress(total)
    with engine.begin() as connection:
        # A trace and its feedback may have come at the same moment by two imports.
        total.joined += _join_waiting(connection)
        total.waiting = _waiting(connection)
    return total


def _batches(
    records: Iterable[tuple[int, Record]],
) -> Iterator[tuple[tuple[int, Record], ...]]:
    iterator = iter(records)
    while batch := tuple(islice(iterator, BATCH)):
        yield batch


def _import_batch(
    connection: Connection, batch: tuple[tuple[int, Record], ...], source: str, total: Imported
) -> None:
    traces, bad = _import_traces(connection, batch, source, total)
    feedback: list[tuple[int, Feedback]] = []
    for line, record in batch:
        if isinstance(record, Feedback):
            feedback.append((line, record))
        elif isinstance(record, BadLine):
            bad.append(_quarantine(source, line, record.reason, record.raw))
    known = stored_outputs(connection, list({record.prompt_id for _, record in feedback}))
    rows = [_feedback_row(record, source) for _, record in feedback if record.prompt_id in known]
    new = insert_new(connection, FeedbackRow, rows)
    total.feedback += new
    total.feedback_known += len({row["feedback_id"] for row in rows}) - new
    new = insert_new(connection, QuarantineRow, bad)
    total.quarantined += new
    total.quarantined_known += len(bad) - new
    early = [
        _waits(source, line, record) for line, record in feedback if record.prompt_id not in known
    ]
    insert_new(connection, QuarantineRow, early)
    total.joined += _join_waiting(connection, traces)


def _import_traces(
    connection: Connection, batch: tuple[tuple[int, Record], ...], source: str, total: Imported
) -> tuple[list[str], list[dict[str, Any]]]:
    """Insert the traces of a batch. Returns their prompt ids, and those that contradict a trace."""
    traces: dict[str, dict[str, Any]] = {}
    contracts: dict[str, dict[str, Any]] = {}
    bad: list[dict[str, Any]] = []
    parsed = [(line, *record.rows(source)) for line, record in batch if isinstance(record, Trace)]
    known = stored_outputs(connection, [row["prompt_id"] for _, row, _ in parsed])
    for line, row, contract in parsed:
        identity = (row["dedup_key"], row["output"])
        if known.setdefault(row["prompt_id"], identity) != identity:
            reason = (
                f"prompt_id {row['prompt_id']} is already stored with another request or answer"
            )
            bad.append(_quarantine(source, line, reason, str(row["messages"]) + row["output"]))
            continue
        traces.setdefault(row["prompt_id"], row)
        if contract:
            contracts[contract["contract_id"]] = contract
    insert_new(connection, ContractRow, list(contracts.values()))
    new = insert_new(connection, TraceRow, list(traces.values()))
    total.traces += new
    total.traces_known += len(traces) - new
    return list(traces), bad


def _join_waiting(connection: Connection, prompt_ids: Sequence[str] | None = None) -> int:
    """Move feedback whose trace is in the store out of quarantine.

    Args:
        connection: of the transaction that brings the traces.
        prompt_ids: of these traces; None: of all.

    Returns:
        How many were moved.
    """
    table = QuarantineRow.__table__
    query = select(table.c.quarantine_id, table.c.source, table.c.raw)
    if prompt_ids is None:
        queries = [query.join(TraceRow, TraceRow.prompt_id == table.c.prompt_id)]
    else:
        chunks = (prompt_ids[i : i + CHUNK] for i in range(0, len(prompt_ids), CHUNK))
        queries = [query.where(table.c.prompt_id.in_(chunk)) for chunk in chunks]
    found = [row for query in queries for row in connection.execute(query)]
    rows = [_feedback_row(Feedback.model_validate_json(raw), source) for _, source, raw in found]
    insert_new(connection, FeedbackRow, rows)
    for start in range(0, len(found), CHUNK):
        names = [name for name, _, _ in found[start : start + CHUNK]]
        connection.execute(delete(QuarantineRow).where(table.c.quarantine_id.in_(names)))
    return len(found)


def _waiting(connection: Connection) -> int:
    waits = QuarantineRow.prompt_id.is_not(None)
    return connection.scalar(select(func.count()).select_from(QuarantineRow).where(waits)) or 0


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


def _feedback_row(record: Feedback, source: str) -> dict[str, Any]:
    return record.model_dump() | {
        "feedback_id": feedback_id(record),
        "source": source,
        "received_at": dt.datetime.now(dt.UTC),
    }


def _waits(source: str, line: int, record: Feedback) -> dict[str, Any]:
    row = _quarantine(source, line, WAITS, record.model_dump_json())
    # Named by its content, not by its line: the same feedback waits once.
    return row | {
        "quarantine_id": digest("waits", feedback_id(record))[:32],
        "prompt_id": record.prompt_id,
    }


def _quarantine(source: str, line: int, reason: str, raw: str) -> dict[str, Any]:
    return {
        "quarantine_id": digest(source, str(line), raw)[:32],
        "prompt_id": None,
        "source": source,
        "line": line,
        "reason": reason,
        "raw": raw,
        "ts": dt.datetime.now(dt.UTC),
    }
