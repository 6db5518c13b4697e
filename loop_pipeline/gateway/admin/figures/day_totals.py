"""What the store has of live traffic: sums of a month's days, and requests that two have answered.

Not here: what is not in the store yet (``admin/spool_tail.py``), who sums up
(``store/incoming/live_sums.py``), and what the figures say (``live_numbers.py``).
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.gateway.admin.figures.live_queries import (
    held_groups,
    ids_there,
    minutes_from,
    newest_requests,
    summed_up,
)
from loop_pipeline.gateway.admin.figures.live_row import Minutes, Totals
from loop_pipeline.gateway.admin.figures.twice_answered import Again, Both, TwiceAnswered
from loop_pipeline.store.incoming.live_sums import minute_of

SERIES_MINUTES = 60
# Of the days with traffic, the newest requests are looked for in the last ones.
NEWEST_DAYS = 2


@dataclass(frozen=True)
class StoreView:
    """What was found at one moment; ``found_ids``: of the ids asked for, those that are there."""

    totals: Totals
    both: list[Both]
    again: list[Again]
    minutes: Minutes
    newest: list[dict[str, Any]]
    found_ids: set[str]
    holds: list[dict[str, Any]]
    at: dt.datetime
    took_s: float


class DayTotals:
    """Reads the days of the present month."""

    def __init__(self) -> None:
        self._twice = TwiceAnswered()

    def view(self, engine: Engine, asked: Collection[str], now: dt.datetime) -> StoreView:
        """Read what is new since the last call.

        Args:
            engine: the store.
            asked: prompt ids; the answer says which are there, as of the same moment.
            now: the present moment.
        """
        began = time.perf_counter()
        month = now.date().isoformat()[:7]
        since = now - dt.timedelta(minutes=SERIES_MINUTES)
        first = min(now.replace(day=1), since).date().isoformat()
        with _one_moment(engine) as connection:
            totals = summed_up(connection, first)
            days = sorted({key.day for key in totals})[-NEWEST_DAYS:]
            return StoreView(
                totals={key: sums for key, sums in totals.items() if key.day.startswith(month)},
                both=self._twice.read(connection, f"{month}-01"),
                again=self._twice.again,
                minutes=minutes_from(connection, minute_of(since)),
                newest=newest_requests(connection, days[0]) if days else [],
                found_ids=ids_there(connection, list(asked)),
                holds=held_groups(connection),
                at=now,
                took_s=time.perf_counter() - began,
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
