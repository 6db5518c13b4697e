"""The traces of a batch into the store: new, known, or refused because another has their id.

Not here: the rest of a batch (``ingest.py``), and the statement that inserts (``store``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.store.database import insert_new
from loop_pipeline.store.incoming.bulk_insert import insert_traces
from loop_pipeline.store.incoming.trace_names import differences, stored_ids, unlike
from loop_pipeline.store.tables import ContractRow
from loop_pipeline.traces.feedback_joins import quarantined
from loop_pipeline.traces.importers.jsonl import bad_line
from loop_pipeline.traces.records import Trace
from loop_pipeline.traces.trace_lines import TraceLine, former_id, trace_line


@dataclass
class Incoming:
    """What the traces of a batch have become."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Rows of ``traces`` by prompt id; in the end those that are stored."""
    new: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    """Rows of ``quarantine``."""
    refused: set[str] = field(default_factory=set)
    """Prompt ids that a trace of the batch claims, and another trace has."""
    refused_records: set[int] = field(default_factory=set)
    """``id()`` of the records of these traces."""
    places: dict[str, tuple[int, TraceLine | Trace, TraceLine]] = field(default_factory=dict)
    contracts: dict[str, dict[str, Any]] = field(default_factory=dict)


def insert_batch(
    connection: Connection,
    batch: Iterable[tuple[int, TraceLine | Trace]],
    source: str,
    hash_user: Callable[[str], str],
    prices: Prices = LIST_PRICES,
) -> Incoming:
    """Insert the traces that are not there; the first one with a prompt id keeps it."""
    found = Incoming()
    for line, record in batch:
        trace = trace_line(record) if isinstance(record, Trace) else record
        try:
            row, contract = trace.rows(source, hash_user, prices)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            found.bad.append(as_quarantined(source, line, str(error), trace.raw))
            found.refused_records.add(id(record))
            continue
        first = found.rows.setdefault(row["prompt_id"], row)
        if first is not row and (fields := unlike(first, row)):
            _refuse(found, (line, record, trace), row, fields)
            continue
        found.places.setdefault(row["prompt_id"], (line, record, trace))
        if contract:
            found.contracts[contract["contract_id"]] = contract
    _keep_former_ids(connection, found)
    insert_new(connection, ContractRow, list(found.contracts.values()))
    found.new = insert_traces(connection, list(found.rows.values()))
    if found.new < len(found.rows):
        # After the insert: whatever another import has brought meanwhile is seen here.
        for prompt_id, fields in differences(connection, found.rows).items():
            _refuse(found, found.places[prompt_id], found.rows.pop(prompt_id), fields)
    return found


def as_quarantined(source: str, line: int, reason: str, raw: bytes) -> dict[str, Any]:
    """A row of ``quarantine`` with the line itself, as far as it can be stored."""
    shown = bad_line(raw, reason)
    return quarantined(source, line, shown.reason, shown.raw)


def _keep_former_ids(connection: Connection, found: Incoming) -> None:
    """Traces without an id that an older loop_pipeline stored keep the id that it derived."""
    derived = {
        name: former_id(found.rows[name])
        for name, (_, _, trace) in found.places.items()
        if not trace.prompt_id
    }
    former = stored_ids(connection, derived.values())
    for name, old in derived.items():
        if old in former and not differences(connection, {old: found.rows[name]}):
            found.rows[old] = found.rows.pop(name) | {"prompt_id": old}
            found.places[old] = found.places.pop(name)


def _refuse(
    found: Incoming,
    place: tuple[int, TraceLine | Trace, TraceLine],
    row: dict[str, Any],
    fields: list[str],
) -> None:
    line, record, trace = place
    prompt_id = row["prompt_id"]
    found.refused.add(prompt_id)
    found.refused_records.add(id(record))
    reason = f"prompt_id {prompt_id} is already stored with another {', '.join(fields)}"
    found.bad.append(as_quarantined(row["source"], line, reason, trace.raw))
