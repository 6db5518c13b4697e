"""Lines from the quarantine tried again: what can be used now leaves it, the rest says why not.

Not here: which lines (``quarantine_list.py``), and what an import is (``ingest.py``).

First a line is imported, then it leaves: whoever is killed between the two finds it again, and
what it brought is known by then. So the same lines tried twice are the same rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, delete, select

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.hashing import digest
from loop_pipeline.store.database import insert_new
from loop_pipeline.store.tables import QuarantineRetryRow, QuarantineRow
from loop_pipeline.traces.import_summary import Imported
from loop_pipeline.traces.importers.jsonl import Record, parse_line
from loop_pipeline.traces.ingest import Again, import_records
from loop_pipeline.traces.quarantine.bad_lines import keep_reasons
from loop_pipeline.traces.trace_lines import TraceLine

# Lines in memory at once; one of them may have many megabytes.
TOGETHER = 200
# Of these only the beginning is there, or nothing, or what they mean takes the head of their file.
NOT_WHOLE = ("its beginning is kept", "the rest of the document", "no row of a CSV")
ELSEWHERE = ("mlflow",)
REFUSED = "is already stored with another"

Row = dict[str, Any]


@dataclass
class Retried:
    """What came of it."""

    imported: Imported = field(default_factory=Imported)
    left: int = 0
    """Lines that have left the quarantine."""
    stayed: int = 0
    not_tried: int = 0
    """Lines of which too little is kept; their files have to be imported again."""

    def __str__(self) -> str:
        """One line for people."""
        untried = f", {self.not_tried} not kept whole (import their files again)"
        return (
            f"{self.left} lines have left the quarantine, {self.stayed} stay"
            f"{untried if self.not_tried else ''}: {self.imported}"
        )


def retry(
    engine: Engine,
    where: Sequence[ColumnElement[bool]],
    read: Callable[[Row], list[Record]],
    *,
    secret: Callable[[], bytes] | None = None,
    reviews: Callable[[str], bool] = lambda _: False,
    prices: Prices = LIST_PRICES,
) -> Retried:
    """Import lines from the quarantine again.

    Args:
        engine: the store.
        where: which, as ``quarantine_list.chosen`` says it.
        read: the records on a line, by its row of ``quarantine``.
        secret: as for ``import_records``.
        reviews: whether reviewers speak in a source.
        prices: of traces that say no cost.
    """
    done = Retried()
    for source, names in _by_source(engine, where):
        again = Again(_refused_ids(engine, source))
        for start in range(0, len(names), TOGETHER):
            rows = _rows(engine, names[start : start + TOGETHER])
            whole = [row for row in rows if _is_whole(row)]
            done.not_tried += len(rows) - len(whole)
            records = ((row["line"], record) for row in whole for record in read(row))
            came = import_records(
                engine,
                records,
                source=source,
                secret=secret,
                reviews=reviews(source),
                again=again,
                prices=prices,
            )
            done.imported.add(came.model_copy(update={"quarantined": 0, "quarantined_known": 0}))
            done.imported.waiting = came.waiting
            stay = [row for row in whole if row["quarantine_id"] in again.bad]
            with engine.begin() as connection:
                _settle(connection, whole, again.bad)
            done.stayed += len(stay)
            done.left += len(whole) - len(stay)
    return done


def _by_source(
    engine: Engine, where: Sequence[ColumnElement[bool]]
) -> Iterator[tuple[str, list[str]]]:
    """Ids of the lines of each source, in the order of the lines."""
    row = QuarantineRow
    order = select(row.source, row.quarantine_id).order_by(row.source, row.line, row.ts)
    with engine.connect() as connection:
        found = [tuple(one) for one in connection.execute(order.where(*where))]
    for source, of_source in groupby(found, key=lambda one: one[0]):
        yield source, [name for _, name in of_source]


def _rows(engine: Engine, names: list[str]) -> list[Row]:
    table = QuarantineRow.__table__
    with engine.connect() as connection:
        statement = select(table).where(table.c.quarantine_id.in_(names))
        found = {
            row["quarantine_id"]: dict(row) for row in connection.execute(statement).mappings()
        }
    return [found[name] for name in names if name in found]


def _is_whole(row: Row) -> bool:
    cut = any(words in row["reason"] for words in NOT_WHOLE)
    return bool(row["raw"].strip()) and not cut and row["source"] not in ELSEWHERE


def _refused_ids(engine: Engine, source: str) -> set[str]:
    """Ids whose traces this source brought in vain: feedback on them is not of the stored ones."""
    row = QuarantineRow
    refused = select(row.raw).where(row.source == source, row.reason.contains(REFUSED))
    with engine.connect() as connection:
        lines = connection.scalars(refused).all()
    records = [record for line in lines for record in parse_line(line.encode())]
    return {one.prompt_id for one in records if isinstance(one, TraceLine)}


def _settle(connection: Connection, rows: list[Row], bad: dict[str, str]) -> None:
    """Take out what is imported, keep the reasons of the rest, and write down what was."""
    now, names = dt.datetime.now(dt.UTC), [row["quarantine_id"] for row in rows]
    gone = [name for name in names if name not in bad]
    changed = {
        row["quarantine_id"]: bad[row["quarantine_id"]]
        for row in rows
        if bad.get(row["quarantine_id"], row["reason"]) != row["reason"]
    }
    history = [_retried(row, now, row["quarantine_id"] in gone) for row in rows]
    told = {*gone, *changed}
    insert_new(connection, QuarantineRetryRow, [h for h in history if h["quarantine_id"] in told])
    keep_reasons(connection, changed)
    if gone:
        table = QuarantineRow.__table__
        connection.execute(delete(QuarantineRow).where(table.c.quarantine_id.in_(gone)))


def _retried(row: Row, now: dt.datetime, imported: bool) -> Row:
    return {
        "retry_id": digest("retry", row["quarantine_id"], now.isoformat())[:32],
        "quarantine_id": row["quarantine_id"],
        "at": now,
        "imported": imported,
        "source": row["source"],
        "line": row["line"],
        "reason": row["reason"],
        "raw": row["raw"] if imported else None,
        "quarantined_at": row["ts"],
    }
