"""What live traffic sums up to, counted in the transaction that brings it.

Not here: who reads it (``gateway/admin/figures``), and which rows are new (``bulk_insert.py``).

So a page knows what a month has cost without reading a million rows, and a trace that is erased
later was asked, answered and paid for all the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from loop_pipeline.costs.unpriced import unpriced_as
from loop_pipeline.store.tables import Base, LiveDayRow, LiveMinuteRow, TraceRow

# Minutes are kept so long: they are a curve of the last hour.
KEPT = dt.timedelta(days=1)
# Of a name that a foreign log may have made as long as it likes: it is part of a key.
MOST_CHARS = 200

Lane = Literal["student", "escalated", "frontier", "beside"]
"""Who answered: the student, the frontier after the student, the frontier at once; or an answer
that was asked for beside the one that went out."""


def is_live(row: Mapping[str, Any]) -> bool:
    """Whether a trace came through the gateway, which says so in ``route``."""
    route = row.get("route")
    return isinstance(route, dict) and bool(route.get("arm") or route.get("shadow_of"))


def lane_of(row: Mapping[str, Any]) -> Lane:
    """Who answered a trace that came through the gateway."""
    route = row["route"]
    if route.get("shadow_of"):
        return "beside"
    if row.get("producer") == "student":
        return "student"
    return "escalated" if route.get("arm") == "student" else "frontier"


def minute_of(moment: dt.datetime) -> str:
    """The minute of a moment in UTC, as minutes are named everywhere."""
    return moment.astimezone(dt.UTC).isoformat()[:16]


def count_live(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add traces that were not in the store before.

    Call it at the end of a transaction: from here to its end, other imports of the day wait.
    """
    live = [row for row in rows if is_live(row)]
    minutes: dict[tuple[str, str], int] = {}
    kept = minute_of(dt.datetime.now(dt.UTC) - KEPT)
    for row in live:
        lane = lane_of(row)
        if lane != "beside" and (minute := minute_of(row["ts"])) >= kept:
            minutes[minute, lane] = minutes.get((minute, lane), 0) + 1
    _add(connection, LiveDayRow, _by_day(live, 1))
    _add(connection, LiveMinuteRow, [(*key, n) for key, n in minutes.items()])
    if minutes:
        connection.execute(delete(LiveMinuteRow).where(LiveMinuteRow.minute < kept))


def priced_later(connection: Connection, usd: Mapping[str, float]) -> None:
    """Count traces as priced that were unpriced. Call it before their rows are changed.

    Args:
        connection: of the transaction.
        usd: what they cost, by prompt id.
    """
    own = select(TraceRow.__table__).where(TraceRow.prompt_id.in_(list(usd)))
    found = connection.execute(own.where(TraceRow.cost_usd.is_(None))).mappings()
    rows = [row for row in map(dict, found) if is_live(row)]
    _add(connection, LiveDayRow, _by_day(rows, -1))
    priced = [row | {"cost_usd": usd[row["prompt_id"]]} for row in rows]
    _add(connection, LiveDayRow, _by_day(priced, 1))


def _by_day(rows: Iterable[Mapping[str, Any]], times: int) -> list[tuple[Any, ...]]:
    """Rows of ``live_days``; ``times`` is -1 for traces that are counted otherwise from now on."""
    days: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        route = row["route"]
        names = (_name(route.get("policy")), _name(route.get("group_id")))
        key = (row["day"], lane_of(row), *names, bool(route.get("canary")), _name(unpriced_as(row)))
        sums = days.setdefault(key, [0, 0.0, 0, 0, row["ts"]])
        sums[0] += times
        sums[1] += times * (row["cost_usd"] or 0.0)
        sums[2] += times * row["tokens_in"]
        sums[3] += times * row["tokens_out"]
        sums[4] = min(sums[4], row["ts"])
    return [(*key, *sums) for key, sums in days.items()]


def _name(value: Any) -> str:
    return str(value or "")[:MOST_CHARS]


def _add(connection: Connection, table: type[Base], rows: list[tuple[Any, ...]]) -> None:
    """Add to the sums of each key; in one order, or two imports would wait for each other."""
    if not rows:
        return
    columns = table.__table__.columns
    is_sqlite = connection.dialect.name == "sqlite"
    statement = (sqlite if is_sqlite else postgresql).insert(table)
    least = func.min if is_sqlite else func.least
    added = {
        c.name: least(c, statement.excluded[c.name])
        if c.name == "first"
        else c + statement.excluded[c.name]
        for c in columns
        if not c.primary_key
    }
    keys = [c.name for c in columns if c.primary_key]
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=added),
        [dict(zip(columns.keys(), row, strict=True)) for row in sorted(rows)],
    )
