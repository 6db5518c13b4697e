"""Statements about live traffic in the store, on SQLite and PostgreSQL.

Not here: what is kept of the answers (``day_totals.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Connection, Select, case, func, or_, select

from loop_pipeline.gateway.admin.figures.live_row import listed
from loop_pipeline.store.database import CHUNK
from loop_pipeline.store.shadow_answers import ADAPTER, REQUEST, SHADOW_OF
from loop_pipeline.store.tables import ContractRow, HoldRow, TraceRow, UtcDateTime
from loop_pipeline.store.unpriced_traces import UNPRICED_AS

NEWEST = 50
# Answers that say nothing about a model: the stream broke, or the client left.
UNFINISHED = ("broken", "cancelled")

_ROUTE = TraceRow.route
_ARM = _ROUTE["arm"].as_string()
_LANE = case(
    (SHADOW_OF.is_not(None), "beside"),
    (TraceRow.producer == "student", "student"),
    (_ARM == "student", "escalated"),
    else_="frontier",
)


def ids_there(connection: Connection, ids: list[str]) -> set[str]:
    """Which of these prompt ids are in the store."""
    found: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        own = TraceRow.prompt_id.in_(ids[start : start + CHUNK])
        found |= set(connection.scalars(select(TraceRow.prompt_id).where(own)))
    return found


def day_counts(connection: Connection, first: str) -> dict[str, int]:
    """Traces of each day from the first on: an index is all that is read."""
    counted = select(TraceRow.day, func.count()).where(TraceRow.day >= first)
    return {day: n for day, n in connection.execute(counted.group_by(TraceRow.day))}  # noqa: C416


def minute_name(connection: Connection) -> Any:
    """The minute of a trace, as ``live_row.minute_of`` names it."""
    if connection.dialect.name == "sqlite":
        return func.strftime("%Y-%m-%dT%H:%M", TraceRow.ts)
    return func.to_char(func.timezone("UTC", TraceRow.ts), 'YYYY-MM-DD"T"HH24:MI')


def day_sums(day: str, minute: Any, since: dt.datetime | None) -> Select[Any]:
    """One row for each kind of request of a day, and for each minute of the last hour.

    ``unpriced``: the model of answers whose cost is not known; null of the others.
    """
    recent = case((TraceRow.ts >= since, minute)) if since else func.coalesce(None, None)
    inner = (
        select(
            _LANE.label("lane"),
            _ROUTE["policy"].as_string().label("policy"),
            _ROUTE["group_id"].as_string().label("group_id"),
            _ROUTE["canary"].as_boolean().label("canary"),
            recent.label("minute"),
            UNPRICED_AS.label("unpriced"),
            TraceRow.cost_usd,
            TraceRow.tokens_in,
            TraceRow.tokens_out,
            TraceRow.ts,
        )
        .where(TraceRow.day == day)
        .where(or_(_ARM.is_not(None), SHADOW_OF.is_not(None)))
        .subquery()
    )
    names = ("lane", "policy", "group_id", "canary", "minute", "unpriced")
    keys = [inner.c[name] for name in names]
    return select(
        *keys,
        func.count().label("n"),
        func.coalesce(func.sum(inner.c.cost_usd), 0.0).label("usd"),
        func.sum(inner.c.tokens_in).label("tokens_in"),
        func.sum(inner.c.tokens_out).label("tokens_out"),
        func.min(inner.c.ts, type_=UtcDateTime).label("first"),
    ).group_by(*keys)


def answered_twice(day: str) -> Select[Any]:
    """Answers to the requests of a day that the shadow coin drew, students' and the frontier's."""
    return (
        select(
            TraceRow.prompt_id,
            REQUEST.label("request"),
            TraceRow.producer,
            ADAPTER.label("adapter"),
            _ROUTE["policy"].as_string().label("policy"),
            _ROUTE["group_id"].as_string().label("group_id"),
            _ROUTE["canary"].as_boolean().label("canary"),
            TraceRow.output,
            TraceRow.tokens_in,
            TraceRow.tokens_out,
            TraceRow.cost_usd,
            ContractRow.body.label("contract"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(TraceRow.day == day, _ROUTE["shadow"].as_boolean())
        .where(or_(TraceRow.finish_reason.is_(None), TraceRow.finish_reason.not_in(UNFINISHED)))
    )


def newest_requests(connection: Connection, days: list[str]) -> list[dict[str, Any]]:
    """The newest requests of these days, as the page lists them."""
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
        .where(TraceRow.day.in_(days), _ARM.is_not(None), SHADOW_OF.is_(None))
        .order_by(TraceRow.ts.desc())
        .limit(NEWEST)
    )
    own = TraceRow.prompt_id.in_(list(connection.scalars(ids)))
    return [listed(dict(row)) for row in connection.execute(select(*columns).where(own)).mappings()]


def held_groups(connection: Connection) -> list[dict[str, Any]]:
    """Groups that are held now, and why."""
    names = ("group_id", "at", "reason", "actor")
    held = select(*(getattr(HoldRow, name) for name in names)).where(HoldRow.released_at.is_(None))
    return [dict(row) for row in connection.execute(held.order_by(HoldRow.at)).mappings()]
