"""Puts records into the store: idempotent, in batches, and nothing is dropped without a reason."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from loop_pipeline.store.queries import insert_new, stored_outputs
from loop_pipeline.store.tables import ContractRow, FeedbackRow, QuarantineRow, TraceRow
from loop_pipeline.traces.importers.jsonl import BadLine, Record, read_jsonl
from loop_pipeline.traces.records import Feedback, Trace, digest

BATCH = 2000


class Imported(BaseModel):
    """What an import did."""

    traces: int = 0
    traces_known: int = 0
    feedback: int = 0
    feedback_known: int = 0
    quarantined: int = 0
    quarantined_known: int = 0

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.traces} new traces ({self.traces_known} were there), "
            f"{self.feedback} new feedback ({self.feedback_known} were there), "
            f"{self.quarantined} lines quarantined ({self.quarantined_known} were there)"
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
    traces: dict[str, dict[str, Any]] = {}
    contracts: dict[str, dict[str, Any]] = {}
    feedback: list[dict[str, Any]] = []
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
    for line, record in batch:
        if isinstance(record, Feedback):
            feedback.append(_feedback_row(record, source))
        elif isinstance(record, BadLine):
            bad.append(_quarantine(source, line, record.reason, record.raw))
    insert_new(connection, ContractRow, list(contracts.values()))
    new = insert_new(connection, TraceRow, list(traces.values()))
    total.traces += new
    total.traces_known += len(traces) - new
    new = insert_new(connection, FeedbackRow, feedback)
    total.feedback += new
    total.feedback_known += len(feedback) - new
    new = insert_new(connection, QuarantineRow, bad)
    total.quarantined += new
    total.quarantined_known += len(bad) - new


def _feedback_row(record: Feedback, source: str) -> dict[str, Any]:
    row = record.model_dump() | {"source": source, "received_at": dt.datetime.now(dt.UTC)}
    row["feedback_id"] = digest(
        record.prompt_id,
        record.kind,
        str(record.value),
        record.edited_output or "",
        record.actor or "",
        record.ts.astimezone(dt.UTC).isoformat(),
    )[:32]
    return row


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
