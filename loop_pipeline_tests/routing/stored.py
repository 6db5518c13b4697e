"""The small world as rows of a store."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import Engine

from benchmarks.fixtures import add_student
from loop_pipeline.store.database import records, upsert
from loop_pipeline.store.tables import GroupMemberRow, StudentAnswerRow, TraceRow
from loop_pipeline_tests.serving.examples import OLD, trace_row

ANSWER = [c.name for c in StudentAnswerRow.__table__.columns]


def store_world(engine: Engine, answers: pd.DataFrame, *, usd: float = 0.01) -> None:
    """Requests with their groups, and one student's answers to them."""
    add_student(engine, OLD)
    traces: list[dict[str, Any]] = [
        trace_row(row["prompt_id"], row["frontier_output"], text=row["text"], split=row["split"])
        | {"cost_usd": usd, "dedup_key": row["prompt_id"], "template_hash": row["template_hash"]}
        for row in records(answers)
    ]
    members = answers[["prompt_id", "group_id"]].assign(distance=0.1, x=0.0, y=0.0)
    own = answers.assign(checkpoint_id=OLD)[ANSWER]
    with engine.begin() as connection:
        upsert(connection, TraceRow, traces)
        upsert(connection, GroupMemberRow, records(members))
        upsert(connection, StudentAnswerRow, records(own))
