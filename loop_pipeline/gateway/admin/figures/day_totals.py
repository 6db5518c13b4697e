"""What the store has of live traffic: sums of a month's days, and requests that two have answered.

Not here: what is not in the store yet (``admin/spool_tail.py``), and what the figures say
(``live_numbers.py``).

A day is counted again only if it has more traces than before, which an index knows.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.gateway.admin.figures.live_queries import (
    answered_twice,
    day_counts,
    day_sums,
    held_groups,
    ids_there,
    minute_name,
    newest_requests,
)
from loop_pipeline.gateway.admin.figures.live_row import (
    Key,
    Minutes,
    Sums,
    Totals,
    add_totals,
    minute_of,
)

SERIES_MINUTES = 60


@dataclass(frozen=True)
class Both:
    """A request that a student and the frontier have answered; the student's answer went out."""

    day: str
    policy: str | None
    group_id: str | None
    canary: bool
    agrees: bool
    tokens_in: int
    tokens_out: int
    frontier_usd: float | None
    """None: unpriced."""


@dataclass(frozen=True)
class StoreView:
    """What was found at one moment; ``found_ids``: of the ids asked for, those that are there."""

    totals: Totals
    both: list[Both]
    minutes: Minutes
    newest: list[dict[str, Any]]
    found_ids: set[str]
    holds: list[dict[str, Any]]
    at: dt.datetime
    took_s: float


@dataclass
class _Day:
    rows: int = -1
    totals: Totals = field(default_factory=dict)
    both: list[Both] = field(default_factory=list)
    minutes: Minutes = field(default_factory=dict)


class DayTotals:
    """Counts the days of the present month."""

    def __init__(self) -> None:
        self._days: dict[str, _Day] = {}
        # Texts are compared once: by request, the answers and whether they agree.
        self._compared: dict[str, bool] = {}

    def view(self, engine: Engine, asked: Collection[str], now: dt.datetime) -> StoreView:
        """Count what is new since the last call.

        Args:
            engine: the store.
            asked: prompt ids; the answer says which are there, as of the same moment.
            now: the present moment.
        """
        began = time.perf_counter()
        since = now - dt.timedelta(minutes=SERIES_MINUTES)
        first = min(now.replace(day=1), since).date().isoformat()
        with _one_moment(engine) as connection:
            found = ids_there(connection, list(asked))
            counts = day_counts(connection, first)
            self._days = {day: self._days.get(day, _Day()) for day in counts}
            for day, rows in counts.items():
                recent = day >= since.date().isoformat()
                if rows != self._days[day].rows:
                    self._days[day] = self._count(connection, day, rows, since if recent else None)
            newest = newest_requests(connection, sorted(counts)[-2:])
            holds = held_groups(connection)
        totals: Totals = {}
        minutes: Minutes = {}
        both: list[Both] = []
        month = now.date().isoformat()[:7]
        for day, own in self._days.items():
            minutes |= own.minutes
            if day.startswith(month):
                add_totals(totals, own.totals)
                both += own.both
        took = time.perf_counter() - began
        return StoreView(totals, both, minutes, newest, found, holds, now, took)

    def _count(
        self, connection: Connection, day: str, rows: int, since: dt.datetime | None
    ) -> _Day:
        own = _Day(rows)
        minute = minute_name(connection) if since else None
        for row in connection.execute(day_sums(day, minute, since)).mappings():
            key = Key(day, row["lane"], row["policy"], row["group_id"], bool(row["canary"]))
            unpriced = {row["unpriced"]: row["n"]} if row["unpriced"] else {}
            sums = Sums(
                row["n"], row["usd"], unpriced, row["tokens_in"], row["tokens_out"], row["first"]
            )
            own.totals.setdefault(key, Sums()).add(sums)
            if row["minute"] and key.lane != "beside":
                at = (row["minute"], key.lane)
                own.minutes[at] = own.minutes.get(at, 0) + row["n"]
        requests: dict[str, dict[str, Any]] = {}
        for row in connection.execute(answered_twice(day)).mappings():
            who = "frontier" if row["producer"] == "frontier" else "student"
            if who == "frontier" or row["prompt_id"] == row["request"]:
                requests.setdefault(row["request"], {})[who] = row
        for name, answers in requests.items():
            if {"student", "frontier"} <= set(answers):
                own.both.append(self._both(day, name, answers["student"], answers["frontier"]))
        return own

    def _both(
        self, day: str, name: str, student: Mapping[str, Any], frontier: Mapping[str, Any]
    ) -> Both:
        if name not in self._compared:
            contract = student["contract"]
            contract = contract if isinstance(contract, dict) else None
            self._compared[name] = agrees(student["output"], frontier["output"], contract)
        return Both(
            day,
            student["policy"],
            student["group_id"],
            bool(student["canary"]),
            self._compared[name],
            student["tokens_in"],
            student["tokens_out"],
            frontier["cost_usd"],
        )


def _one_moment(engine: Engine) -> Any:
    """A connection whose statements all see the same state of the store."""
    connection = engine.connect()
    if engine.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN")
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


def last_minutes(now: dt.datetime) -> list[str]:
    """The names of the last sixty minutes, the present one last."""
    return [
        minute_of(now - dt.timedelta(minutes=back)) for back in range(SERIES_MINUTES - 1, -1, -1)
    ]
