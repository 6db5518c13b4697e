"""Takes what a day has made of odd records to the router, the report, and a student.

Not here: the steps of the day (``case_stages.py``), and what has to come out (``test_cases.py``,
``test_cases_learned.py``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.report.gather import gather
from loop_pipeline.report.page import page
from loop_pipeline.report.summary import summary
from loop_pipeline.routing.decision import Asked, Settled
from loop_pipeline.routing.router import Router
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import records, replace_days
from loop_pipeline.store.tables import (
    Base,
    HallucinationFlagRow,
    QualityScoreRow,
    TraceSignalRow,
)
from loop_pipeline.store.training_data import replace_pairs
from loop_pipeline.traces.messages import request_text
from loop_pipeline_tests.faults.case_stages import Day


def store_labels(engine: Engine, day: Day) -> None:
    """Write what the steps made, as a run of Dagster does."""
    days = sorted(day.traces["day"].unique())
    made: dict[type[Base], pd.DataFrame] = {
        HallucinationFlagRow: day.flags,
        TraceSignalRow: day.signals,
        QualityScoreRow: day.scores.merge(day.traces[["prompt_id", "day"]], on="prompt_id"),
    }
    with engine.begin() as connection:
        for table, frame in made.items():
            replace_days(connection, table, days, records(frame))
        replace_pairs(connection, days, records(day.pairs))


def routed(router: Router, traces: pd.DataFrame, template: str) -> dict[str, Settled]:
    """Who is asked and whether a student's answer goes out, for requests of a template it knows.

    Each is decided as it came, alone and with all others; the logged answer stands for a student's,
    surer than any.
    """
    group = next(group for group in router.bundle.groups if group.arm == "student")
    rows = traces.to_dict("records")
    asked = [Asked(row["messages"], row["prompt_id"], template) for row in rows]
    together = router.decide_many(asked)
    found = {}
    for row, one, many in zip(rows, asked, together, strict=True):
        alone = router.decide(one.messages, one.prompt_id, template)
        assert alone == many
        as_student = dataclasses.replace(alone, arm="student", group_id=group.group_id)
        found[row["prompt_id"]] = router.settle(
            as_student,
            row["output"],
            [-0.0001],
            row["contract"] if isinstance(row["contract"], dict) else None,
            finish_reason="stop",
            request_text=request_text(row["messages"]),
        )
    return found


def report_text(engine: Engine) -> str:
    """The report of the store, for the terminal and as a page."""
    numbers = gather(engine, load_settings(), pd.DataFrame(), None)
    return summary(numbers) + page(numbers)


def questions(traces: pd.DataFrame) -> dict[str, list[Any]]:
    """The requests by their prompt id."""
    return dict(zip(traces["prompt_id"], traces["messages"], strict=True))
