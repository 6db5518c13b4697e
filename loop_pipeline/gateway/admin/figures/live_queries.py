"""Statements about live traffic in the store, on SQLite and PostgreSQL.

Not here: what is kept of the answers (``day_totals.py``).

Each reads an index, or rows that an index names: none of them grows with the store.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, or_, select

from loop_pipeline.gateway.admin.figures.live_row import Key, Minutes, Sums, Totals, listed
from loop_pipeline.store.database import CHUNK
from loop_pipeline.store.shadow_answers import ADAPTER, FIRST_ANSWER, REQUEST, SHADOW_OF
from loop_pipeline.store.tables import (
    DRAWN,
    ContractRow,
    HoldRow,
    LiveDayRow,
    LiveMinuteRow,
    TraceRow,
)

NEWEST = 50
# Answers that say nothing about a model: the stream broke, or the client left.
UNFINISHED = ("broken", "cancelled")

_ROUTE = TraceRow.route
_ARM = _ROUTE["arm"].as_string()


def ids_there(connection: Connection, ids: list[str]) -> set[str]:
    """Which of these prompt ids are in the store."""
    found: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        own = TraceRow.prompt_id.in_(ids[start : start + CHUNK])
        found |= set(connection.scalars(select(TraceRow.prompt_id).where(own)))
    return found


def summed_up(connection: Connection, first: str) -> Totals:
    """Sums of each day from the first on, by kind of request."""
    totals: Totals = {}
    table: Any = LiveDayRow.__table__
    for row in connection.execute(
        select(table).where(table.c.day >= first, table.c.requests != 0)
    ).mappings():
        names = (row["policy"] or None, row["group_id"] or None)
        key = Key(row["day"], row["lane"], *names, row["canary"])
        unpriced = {row["unpriced"]: row["requests"]} if row["unpriced"] else {}
        tokens = (row["tokens_in"], row["tokens_out"])
        own = Sums(row["requests"], row["usd"], unpriced, *tokens, row["first"])
        totals.setdefault(key, Sums()).add(own)
    return totals


def minutes_from(connection: Connection, first: str) -> Minutes:
    """Requests of each minute from the first on, by who answered."""
    columns = (LiveMinuteRow.minute, LiveMinuteRow.lane, LiveMinuteRow.requests)
    found = connection.execute(select(*columns).where(LiveMinuteRow.minute >= first))
    return {(minute, lane): n for minute, lane, n in found}


def drawn_by_day(connection: Connection, first: str) -> dict[str, int]:
    """Of each day from the first on, how many answers are to requests that the coin drew."""
    counted = select(TraceRow.day, func.count()).where(TraceRow.day >= first, _drawn(connection))
    return {day: n for day, n in connection.execute(counted.group_by(TraceRow.day))}  # noqa: C416


def drawn_of(connection: Connection, day: str) -> list[str]:
    """The prompt ids of these answers of a day."""
    ids = select(TraceRow.prompt_id).where(TraceRow.day == day, _drawn(connection))
    return list(connection.scalars(ids))


def drawn_answers(connection: Connection, ids: list[str]) -> list[dict[str, Any]]:
    """Answers by prompt id, but for those that do not say what a model would have said."""
    found: list[dict[str, Any]] = []
    statement = (
        select(
            TraceRow.prompt_id,
            TraceRow.day,
            REQUEST.label("request"),
            TraceRow.producer,
            ADAPTER.label("adapter"),
            _ROUTE["policy"].as_string().label("policy"),
            _ROUTE["group_id"].as_string().label("group_id"),
            _ROUTE["canary"].as_boolean().label("canary"),
            FIRST_ANSWER.label("first"),
            TraceRow.conversation_id,
            TraceRow.output,
            TraceRow.tokens_in,
            TraceRow.tokens_out,
            TraceRow.cost_usd,
            ContractRow.body.label("contract"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(or_(TraceRow.finish_reason.is_(None), TraceRow.finish_reason.not_in(UNFINISHED)))
    )
    for start in range(0, len(ids), CHUNK):
        own = statement.where(TraceRow.prompt_id.in_(ids[start : start + CHUNK]))
        found += [dict(row) for row in connection.execute(own).mappings()]
    return found


def newest_requests(connection: Connection, first: str) -> list[dict[str, Any]]:
    """The newest requests from this day on, as the page lists them."""
    columns = [
        getattr(TraceRow, name)
        for name in (
            *("prompt_id", "ts", "app", "task", "messages", "producer", "model", "route"),
            *("latency_ms", "cost_usd", "finish_reason"),
        )
    ]
    # The ids first: a sort that carries whole conversations reads and moves all of them.
    ids = (
        select(TraceRow.prompt_id)
        .where(TraceRow.day >= first, _ARM.is_not(None), SHADOW_OF.is_(None))
        .order_by(TraceRow.day.desc(), TraceRow.ts.desc())
        .limit(NEWEST)
    )
    own = TraceRow.prompt_id.in_(list(connection.scalars(ids)))
    return [listed(dict(row)) for row in connection.execute(select(*columns).where(own)).mappings()]


def held_groups(connection: Connection) -> list[dict[str, Any]]:
    """Groups that are held now, and why."""
    names = ("group_id", "at", "reason", "actor")
    held = select(*(getattr(HoldRow, name) for name in names)).where(HoldRow.released_at.is_(None))
    return [dict(row) for row in connection.execute(held.order_by(HoldRow.at)).mappings()]


def _drawn(connection: Connection) -> Any:
    return DRAWN[connection.dialect.name]
