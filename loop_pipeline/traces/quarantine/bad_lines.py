"""Rows of ``quarantine``: one a bad line, with the line as it came and all that is wrong with it.

Not here: what is wrong with a line (``importers``, ``feedback_joins.py``), and trying it again
(``quarantine_retry.py``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from loop_pipeline.hashing import digest
from loop_pipeline.store.database import CHUNK, insert_new, upsert
from loop_pipeline.store.tables import QuarantineRetryRow, QuarantineRow
from loop_pipeline.traces.importers.jsonl import bad_line

# Of one line; a list of a thousand wrong pieces needs no thousand reasons.
MOST_REASONS = 5


def quarantined(source: str, line: int, reason: str, raw: str) -> dict[str, Any]:
    """A row of ``quarantine``."""
    return {
        "quarantine_id": digest(source, str(line), raw)[:32],
        "prompt_id": None,
        "source": source,
        "line": line,
        "reason": reason,
        "raw": raw,
        "ts": dt.datetime.now(dt.UTC),
    }


def as_quarantined(source: str, line: int, reason: str, raw: bytes) -> dict[str, Any]:
    """A row of ``quarantine`` with the line itself, as far as it can be stored."""
    shown = bad_line(raw, reason)
    return quarantined(source, line, shown.reason, shown.raw)


def a_row_a_line(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, those of one line as one with all its reasons."""
    found: dict[str, dict[str, Any]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row["quarantine_id"], row)
        reasons.setdefault(row["quarantine_id"], {})[row["reason"]] = None
    return [
        row | {"reason": "; ".join(list(reasons[name])[:MOST_REASONS])}
        for name, row in found.items()
    ]


def keep_bad_lines(connection: Connection, rows: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Put lines into quarantine. Returns how many are new there, and how many were.

    Args:
        connection: of the transaction.
        rows: a row a line. What was there once and has been imported since does not come back.
    """
    past = _imported_since(connection, [row["quarantine_id"] for row in rows])
    new = insert_new(
        connection, QuarantineRow, [row for row in rows if row["quarantine_id"] not in past]
    )
    return new, len(rows) - new


def keep_reasons(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Write down why lines that are in quarantine are there now."""
    table = QuarantineRow.__table__
    for chunk in _chunks(reasons):
        rows = connection.execute(select(table).where(table.c.quarantine_id.in_(chunk))).mappings()
        changed = [dict(row) | {"reason": reasons[row["quarantine_id"]]} for row in rows]
        upsert(connection, QuarantineRow, changed)


def _imported_since(connection: Connection, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for chunk in _chunks(names):
        table = QuarantineRetryRow
        statement = select(table.quarantine_id).where(
            table.quarantine_id.in_(chunk), table.imported.is_(True)
        )
        found.update(connection.scalars(statement))
    return found


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    every = list(names)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]
