"""Training pairs, data sets and quality models in the store.

Not here: how they are made (``labels``, ``training/dataset``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, select

from loop_pipeline.store.database import count, first_row, insert_rows, replace_days
from loop_pipeline.store.tables import (
    CheckpointRow,
    DatasetRow,
    LabeledPairRow,
    QualityModelRow,
    SupersededPairRow,
)


def replace_pairs(
    connection: Connection, days: Sequence[str], rows: Sequence[dict[str, Any]]
) -> int:
    """Make these pairs the only ones of their days; those that go are kept as superseded.

    Returns:
        How many were superseded.
    """
    table: Any = LabeledPairRow.__table__
    new = {row["pair_id"] for row in rows}
    now: dict[str, list[str]] = {}
    for row in rows:
        now.setdefault(row["prompt_id"], []).append(f"{row['kind']}: {row['reason']}")
    found = connection.execute(select(table).where(table.c.day.in_(days))).mappings()
    moment = dt.datetime.now(dt.UTC)
    gone = [
        dict(old)
        | {
            "superseded_at": moment,
            "instead": "; ".join(now.get(old["prompt_id"], ["nothing is learned from it"])),
        }
        for old in found
        if old["pair_id"] not in new
    ]
    insert_rows(connection, SupersededPairRow, gone)
    replace_days(connection, LabeledPairRow, days, rows)
    return len(gone)


def count_validated_pairs(engine: Engine) -> int:
    """Pairs that a student may learn from."""
    return count(engine, LabeledPairRow, kind="sft")


def pairs_last_trained(engine: Engine) -> tuple[int, dt.datetime | None]:
    """Validated pairs when a student was last trained, and when; (0, None) before the first."""
    statement = (
        select(DatasetRow.validated_pairs, CheckpointRow.created_at)
        .join(CheckpointRow, CheckpointRow.dataset_id == DatasetRow.dataset_id)
        .order_by(CheckpointRow.created_at.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return (row[0], row[1]) if row else (0, None)


def newest_dataset(engine: Engine) -> dict[str, Any] | None:
    """The training set that was frozen last."""
    return first_row(engine, select(DatasetRow.__table__).order_by(DatasetRow.created_at.desc()))


def newest_quality_model(engine: Engine) -> dict[str, Any] | None:
    """The quality score in use: the one fitted last."""
    table = QualityModelRow.__table__
    return first_row(engine, select(table).order_by(table.c.created_at.desc()))
