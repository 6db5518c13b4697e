"""Questions about traces and feedback in the store.

Not here: how they come in (``traces/ingest.py``).

How they come in is in ``loop_pipeline.traces.ingest``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, func, or_, select

from loop_pipeline.store.database import CHUNK, insert_rows, of_app, query, read
from loop_pipeline.store.tables import (
    ContractRow,
    FeedbackRow,
    HallucinationFlagRow,
    QualityScoreRow,
    TraceRow,
    TraceUnitRow,
    UtcDateTime,
)

# How an answer ended that nobody got whole: the stream broke, the client left.
BROKEN = ("broken", "cancelled")


def fix_splits(
    connection: Connection, units: Sequence[dict[str, Any]], moved: Mapping[str, Sequence[str]]
) -> None:
    """Write the units of newly settled traces, and the splits that differ from the draw.

    Args:
        connection: of the transaction.
        units: rows of ``TraceUnitRow``.
        moved: prompt ids by their new split.
    """
    insert_rows(connection, TraceUnitRow, units)
    table: Any = TraceRow.__table__
    for split, prompt_ids in moved.items():
        for start in range(0, len(prompt_ids), CHUNK):
            chunk = prompt_ids[start : start + CHUNK]
            connection.execute(
                table.update().where(table.c.prompt_id.in_(chunk)).values(split=split)
            )


def read_traces(engine: Engine, *, days: Iterable[str] | None = None, **equal: Any) -> pd.DataFrame:
    """Traces with their contracts (column ``contract``: dict or None).

    Answers that broke off are left out: they teach nothing, and nothing is compared with them.
    """
    frame = read(engine, TraceRow, days=days, **equal)
    frame = frame[~frame["finish_reason"].isin(BROKEN)].reset_index(drop=True)
    contracts = read(engine, ContractRow).set_index("contract_id")["body"].to_dict()
    frame["contract"] = pd.Series(
        [contracts.get(key) for key in frame["contract_id"]], index=frame.index, dtype=object
    )
    return frame


# A template with fewer answers on the days in hand is looked for on earlier ones,
FEW_ANSWERS = 60
# so many days back,
EARLIER_DAYS = 27
# and of so many templates at most: a system prompt that names its user makes thousands.
MOST_TEMPLATES = 50


def with_earlier(engine: Engine, traces: pd.DataFrame, days: Iterable[str]) -> pd.DataFrame:
    """Traces of these days, and earlier ones of the templates that have few of them.

    Args:
        engine: the store.
        traces: of these days, with their contracts.
        days: of the traces.
    """
    first = dt.date.fromisoformat(min(days))
    before = [(first - dt.timedelta(days=n)).isoformat() for n in range(1, EARLIER_DAYS + 1)]
    counts = traces["template_hash"].value_counts().sort_index(kind="stable")
    few = counts[counts < FEW_ANSWERS].sort_values(ascending=False, kind="stable")
    if few.empty:
        return traces
    templates = few.index[:MOST_TEMPLATES].tolist()
    earlier = read_traces(engine, days=before, template_hash=templates)
    return pd.concat([traces, earlier], ignore_index=True) if len(earlier) else traces


def read_feedback(
    engine: Engine, *, days: Iterable[str] | None = None, kind: str | None = None
) -> pd.DataFrame:
    """Feedback on the traces of these days, oldest first, whenever it came; of one kind or all."""
    mapped = FeedbackRow.__table__
    statement = select(mapped).join(TraceRow, TraceRow.prompt_id == FeedbackRow.prompt_id)
    statement = statement.where(of_app(engine))
    if days is not None:
        statement = statement.where(TraceRow.day.in_(list(days)))
    if kind is not None:
        statement = statement.where(FeedbackRow.kind == kind)
    return query(engine, statement.order_by(mapped.c.ts, mapped.c.feedback_id))


def days_unlabelled(engine: Engine, first: str, last: str) -> dict[str, tuple[int, int]]:
    """Days with answers that have no flag yet: how many these are, and of how many answers.

    Args:
        engine: the store.
        first: of these days, both included.
        last: see ``first``.
    """
    flag = HallucinationFlagRow.prompt_id
    ended = TraceRow.finish_reason
    open_ones = func.count() - func.count(flag)
    statement = (
        select(TraceRow.day, open_ones, func.count())
        .join(HallucinationFlagRow, flag == TraceRow.prompt_id, isouter=True)
        .where(TraceRow.day.between(first, last), of_app(engine))
        .where(or_(ended.is_(None), ended.not_in(BROKEN)))
        .group_by(TraceRow.day)
        .having(open_ones > 0)
        .order_by(TraceRow.day)
    )
    with engine.connect() as connection:
        return {day: (unlabelled, of) for day, unlabelled, of in connection.execute(statement)}


def count_outside(engine: Engine, first: str, last: str) -> int:
    """How many traces lie before or after these days, where no daily step sees them."""
    outside = select(func.count()).select_from(TraceRow)
    outside = outside.where(or_(TraceRow.day < first, TraceRow.day > last), of_app(engine))
    with engine.connect() as connection:
        return connection.scalar(outside) or 0


def days_touched(engine: Engine, since: dt.datetime) -> dict[str, dt.datetime]:
    """Labelled days that got feedback after a moment, with the moment of the newest."""
    scored = select(QualityScoreRow.day).distinct()
    newest = func.max(FeedbackRow.received_at, type_=UtcDateTime)
    statement = (
        select(TraceRow.day, newest)
        .join(FeedbackRow, FeedbackRow.prompt_id == TraceRow.prompt_id)
        .where(FeedbackRow.received_at > since, TraceRow.day.in_(scored), of_app(engine))
        .group_by(TraceRow.day)
        .order_by(TraceRow.day)
    )
    with engine.connect() as connection:
        return {day: moment for day, moment in connection.execute(statement)}  # noqa: C416
