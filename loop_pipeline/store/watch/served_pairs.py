"""Answers that a student served and the frontier gave as well: found, and kept as evidence.

Not here: what they prove (``monitoring/risk.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Connection, Engine, func, select

from loop_pipeline.store.database import CHUNK, insert_rows, of_app
from loop_pipeline.store.shadow_answers import ADAPTER, FIRST_ANSWER, SHADOW_OF, WHOLE
from loop_pipeline.store.tables import (
    DRAWN,
    ContractRow,
    HoldRow,
    LiveMinuteRow,
    TraceRow,
    WatchedAnswerRow,
)

# Rows that reach the store later than this say nothing about today.
LOOK_BACK = dt.timedelta(days=7)
# What the gateway adds to the id of a request for the frontier's answer beside a student's.
BESIDE = "~frontier"

GROUP = TraceRow.route["group_id"].as_string()


def new_served_pairs(engine: Engine, now: dt.datetime) -> list[dict[str, Any]]:
    """Live answers that a student served, drawn by the shadow coin, and not looked at before.

    Returns:
        Of each prompt_id, group_id, adapter, conversation_id, user_hash, ts, output, contract (dict
        or None), and the frontier's answer (``frontier``), in the order they were asked. One
        without the frontier's answer is left out until that comes.
    """
    known = select(WatchedAnswerRow.prompt_id).where(
        WatchedAnswerRow.prompt_id == TraceRow.prompt_id
    )
    first = (now - LOOK_BACK).astimezone(dt.UTC).date().isoformat()
    drawn = (DRAWN[engine.dialect.name], TraceRow.day >= first)
    statement = (
        select(
            TraceRow.prompt_id,
            GROUP.label("group_id"),
            ADAPTER.label("adapter"),
            TraceRow.conversation_id,
            TraceRow.user_hash,
            TraceRow.ts,
            TraceRow.output,
            ContractRow.body.label("contract"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(*drawn, TraceRow.producer == "student", SHADOW_OF.is_(None), WHOLE, of_app(engine))
        .where(ADAPTER.is_not(None), GROUP.is_not(None), ~known.exists())
        .order_by(TraceRow.ts, TraceRow.prompt_id)
    )
    with engine.connect() as connection:
        rows = [dict(row) for row in connection.execute(statement).mappings()]
        said = _frontier(connection, [row["prompt_id"] for row in rows], drawn)
    return [row | {"frontier": said[n]} for row in rows if (n := row["prompt_id"]) in said]


def _frontier(connection: Connection, requests: list[str], drawn: Any) -> dict[str, str]:
    """What the frontier answered beside these requests, in one whole answer."""
    columns = select(SHADOW_OF.label("request"), TraceRow.output)
    columns = columns.where(TraceRow.producer == "frontier", WHOLE, FIRST_ANSWER)
    found: dict[str, str] = {}
    for at in range(0, len(requests), CHUNK):
        part = requests[at : at + CHUNK]
        named = TraceRow.prompt_id.in_([f"{name}{BESIDE}" for name in part])
        found |= {row.request: row.output for row in connection.execute(columns.where(named))}
        # Under other names they are looked for among all that was drawn.
        if rest := [name for name in part if name not in found]:
            others = columns.where(*drawn, SHADOW_OF.in_(rest))
            found |= {row.request: row.output for row in connection.execute(others)}
    return found


def releases(connection: Connection) -> dict[str, int]:
    """How often each group was released: the number of its stream."""
    over = select(HoldRow.group_id, func.count().label("times"))
    over = over.where(HoldRow.released_at.is_not(None)).group_by(HoldRow.group_id)
    return {row.group_id: row.times for row in connection.execute(over)}


def last_units(
    connection: Connection, stream: tuple[str, str, int], life: int
) -> tuple[int, dict[str, int]]:
    """The last position of a stream, and the units of its last rows with their positions."""
    table: Any = WatchedAnswerRow.__table__
    own = _of(table, stream)
    last = connection.scalar(select(func.max(table.c.position)).where(*own)) or 0
    recent = select(table.c.unit, table.c.position).where(*own, table.c.position > last - life)
    return last, {row.unit: row.position for row in connection.execute(recent)}


def keep_watched(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Keep rows of ``watched_answers``."""
    insert_rows(connection, WatchedAnswerRow, rows)


def streams(engine: Engine) -> list[tuple[str, str, int]]:
    """Group, model and number of every stream that counts now."""
    table: Any = WatchedAnswerRow.__table__
    columns = (table.c.group_id, table.c.adapter, table.c.stream)
    with engine.connect() as connection:
        released = releases(connection)
        found = connection.execute(select(*columns).distinct().order_by(*columns)).all()
    return [(g, a, int(n)) for g, a, n in found if n == released.get(g, 0)]


def outcomes_from(
    engine: Engine, stream: tuple[str, str, int], rows: int, step: int
) -> tuple[int, list[tuple[bool, dt.datetime]]]:
    """The newest outcomes of a stream, from a position on that is a multiple of ``step``.

    Returns:
        How many rows the stream has, and of the last ones, at least ``rows`` as far as there are so
        many, whether they disagree and when they were looked at.
    """
    table: Any = WatchedAnswerRow.__table__
    own = _of(table, stream)
    with engine.connect() as connection:
        last = connection.scalar(select(func.max(table.c.position)).where(*own)) or 0
        first = max(0, last - rows) // step * step
        newest = select(table.c.disagrees, table.c.at).where(*own, table.c.position > first)
        found = connection.execute(newest.order_by(table.c.position)).all()
    return last, [(bool(disagrees), at) for disagrees, at in found]


def newest_evidence(engine: Engine, adapter: str) -> dt.datetime | None:
    """When an answer of a model was looked at last."""
    newest = select(func.max(WatchedAnswerRow.at)).where(WatchedAnswerRow.adapter == adapter)
    with engine.connect() as connection:
        return connection.scalar(newest)


def served_since(engine: Engine, since: dt.datetime) -> tuple[int, dt.datetime | None]:
    """How many requests students served after a moment, and the first minute of them.

    Minutes of the last day are known, see ``live_minutes``.
    """
    minute = since.astimezone(dt.UTC).isoformat()[:16]
    after = (LiveMinuteRow.lane == "student") & (LiveMinuteRow.minute > minute)
    sums = select(func.sum(LiveMinuteRow.requests), func.min(LiveMinuteRow.minute)).where(after)
    with engine.connect() as connection:
        number, first = connection.execute(sums).one()
    began = dt.datetime.fromisoformat(f"{first}:00+00:00") if first else None
    return int(number or 0), began


def _of(table: Any, stream: tuple[str, str, int]) -> tuple[Any, ...]:
    group_id, adapter, number = stream
    own = (table.c.group_id == group_id, table.c.adapter == adapter, table.c.stream == number)
    return (*own, table.c.position.is_not(None))
