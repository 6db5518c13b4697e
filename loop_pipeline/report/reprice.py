"""What answers would have cost at today's prices, and prices for those that have none.

Not here: the prices themselves (``costs``). A row that has a price keeps it for ever.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, bindparam, select, update

from loop_pipeline.costs.prices import COUNTS, Prices
from loop_pipeline.costs.unpriced import billed_as
from loop_pipeline.store.database import of_app
from loop_pipeline.store.tables import TraceRow

# Rows that are read, and filled, at once.
AT_ONCE = 5000
READ = ("prompt_id", "model", "served_model", "producer", "ts", "service_tier", "cost_usd", *COUNTS)


@dataclass
class Repriced:
    """The answers of one model, in USD.

    ``was`` and ``now`` are of answers that have a cost and a price today; ``kept`` is the cost of
    those without a price today. ``fillable`` are unpriced and have one; ``fill`` is what it says.
    """

    model: str
    answers: int = 0
    was: float = 0.0
    now: float = 0.0
    kept: float = 0.0
    fillable: int = 0
    fill: float = 0.0
    unpriced: int = 0

    def count(self, was: float | None, now: float | None) -> None:
        """Count one answer."""
        self.answers += 1
        if was is not None and now is not None:
            self.was, self.now = self.was + was, self.now + now
        elif was is not None:
            self.kept += was
        elif now is not None:
            self.fillable, self.fill = self.fillable + 1, self.fill + now
        else:
            self.unpriced += 1


def reprice(
    engine: Engine, prices: Prices, first: dt.date, last: dt.date, *, fill: bool = False
) -> list[Repriced]:
    """Price the frontier's answers of some days anew, and say what that changes, by model.

    Args:
        engine: the store.
        prices: that hold here now.
        first: UTC day.
        last: UTC day, included.
        fill: write the prices of answers that are unpriced. No other row is ever changed.

    Raises:
        ValueError: the last day lies before the first.
    """
    if last < first:
        raise ValueError(f"the last day {last} lies before the first {first}")
    found: dict[str, Repriced] = {}
    for day in _days(engine, first, last):
        filled: list[dict[str, Any]] = []
        for row in _answers(engine, day):
            now = prices.usd(row)
            name = billed_as(row)
            found.setdefault(name, Repriced(name)).count(row["cost_usd"], now)
            if row["cost_usd"] is None and now is not None:
                filled.append({"id": row["prompt_id"], "usd": now})
        if fill and filled:
            _fill(engine, filled)
    return sorted(found.values(), key=lambda line: (-line.answers, line.model))


def reprice_lines(lines: list[Repriced], *, filled: bool) -> list[str]:
    """The outcome for people."""
    if not lines:
        return ["the frontier answered nothing on these days"]
    heads = f"{'model':<40}{'answers':>10}{'paid USD':>14}{'now USD':>14}{'difference':>14}"
    told = [heads]
    for line in lines:
        paid, now = line.was + line.kept, line.now + line.kept
        told.append(
            f"{line.model[:39]:<40}{line.answers:>10,}{paid:>14,.6f}{now:>14,.6f}"
            f"{now - paid:>+14,.6f}"
        )
    told += [remark for line in lines for remark in _remarks(line, filled=filled)]
    if not filled:
        told.append("nothing was changed: a cost once known stays as it was")
    return told


def _remarks(line: Repriced, *, filled: bool) -> Iterator[str]:
    if line.fillable:
        done = "were unpriced and cost" if filled else "are unpriced; with --fill they cost"
        yield f"{line.model}: {line.fillable:,} answers {done} {line.fill:,.6f} USD"
    if line.unpriced:
        yield f"{line.model}: {line.unpriced:,} answers stay unpriced: no price is known"


def _days(engine: Engine, first: dt.date, last: dt.date) -> list[str]:
    between = TraceRow.day.between(first.isoformat(), last.isoformat())
    days = select(TraceRow.day).where(between, of_app(engine)).distinct().order_by(TraceRow.day)
    with engine.connect() as connection:
        return list(connection.scalars(days))


def _answers(engine: Engine, day: str) -> Iterator[dict[str, Any]]:
    """The frontier's answers of a day, as rows that a price can be found for."""
    asked = (
        select(*(getattr(TraceRow, name) for name in READ))
        .where(TraceRow.day == day, TraceRow.producer == "frontier", of_app(engine))
        .execution_options(yield_per=AT_ONCE)
    )
    with engine.connect() as connection:
        for row in connection.execute(asked).mappings():
            yield dict(row)


def _fill(engine: Engine, filled: list[dict[str, Any]]) -> None:
    table = TraceRow.__table__
    statement = (
        update(table)  # pyright: ignore[reportArgumentType]
        .where(table.c.prompt_id == bindparam("id"), table.c.cost_usd.is_(None))
        .values(cost_usd=bindparam("usd"))
    )
    for start in range(0, len(filled), AT_ONCE):
        with engine.begin() as connection:
            connection.execute(statement, filled[start : start + AT_ONCE])
