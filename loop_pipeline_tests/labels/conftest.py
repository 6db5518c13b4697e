"""Small frames of traces, feedback and flags, and a simulation whose truth is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import TraceSignalRow

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
FEEDBACK = ["prompt_id", "kind", "value", "edited_output", "actor", "ts"]

Maker = Callable[..., pd.DataFrame]
# Traces, feedback, flags, and whether each answer is good.
Desk = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.Series]


def _traces(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {
        "day": "2026-09-01",
        "messages": [{"role": "user", "content": "Where is order 48213?"}],
        "context": None,
        "contract": None,
        "output": "refund",
        "producer": "frontier",
        "task": "intent",
        "template_hash": "t",
        "finish_reason": "stop",
        "latency_ms": 400.0,
        "logprobs": None,
        "conversation_id": None,
        "user_hash": None,
    }
    return pd.DataFrame(
        [
            {"prompt_id": f"p{i}", "ts": START + dt.timedelta(hours=i)} | base | row
            for i, row in enumerate(rows)
        ]
    )


def _feedback(*rows: dict[str, Any]) -> pd.DataFrame:
    base = {"prompt_id": "p0", "value": None, "edited_output": None, "actor": "ann"}
    made = [base | {"ts": START + dt.timedelta(minutes=i)} | row for i, row in enumerate(rows)]
    return pd.DataFrame(made, columns=FEEDBACK)


def _flags(traces: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    base = {"score": 0.0, "flag": False, "grounded": "yes", "tier": "T0", "version": "v"}
    frame = traces[["prompt_id", "day"]].assign(**(base | columns))
    frame["reasons"] = pd.Series([["why"]] * len(frame), index=frame.index, dtype=object)
    return frame


@pytest.fixture
def make_traces() -> Maker:
    return _traces


@pytest.fixture
def make_feedback() -> Maker:
    return _feedback


@pytest.fixture
def make_flags() -> Maker:
    return _flags


@pytest.fixture(scope="session")
def desk() -> Desk:
    """4,000 answers, half of them good; bad ones are reacted to more and mostly accepted."""
    rng = np.random.default_rng(5)
    n = 4000
    good = rng.random(n) < 0.5
    kinds = ("summarise", "answer", "draft")
    traces = _traces(*({"output": "refund", "task": kinds[i % 10 // 4]} for i in range(n)))
    risk = np.where(good, rng.beta(1.5, 4, n), rng.beta(4, 2.5, n))
    flags = _flags(traces, score=risk, flag=risk > 0.8, tier="T1")
    rows = []
    for i in np.flatnonzero(rng.random(n) < np.where(good, 0.5, 0.8)):
        accepted = rng.random() < (0.93 if good[i] else 0.65)
        kind = "accepted" if accepted else rng.choice(["modified", "rejected"])
        edit = "no refund" if kind == "modified" else None
        rows.append({"prompt_id": f"p{i}", "kind": str(kind), "edited_output": edit})
    truth = pd.Series(good, index=traces["prompt_id"])
    return traces, _feedback(*rows), flags, truth


@pytest.fixture
def add_signals() -> Callable[..., None]:
    """Writes rows of ``trace_signals`` in which nothing is known but what is given."""

    def write(engine: Engine, prompt_ids: list[str], **known: Any) -> None:
        table = TraceSignalRow.__table__
        empty: dict[str, Any] = dict.fromkeys(c.name for c in table.columns)
        empty |= {"day": "2026-09-01", "reviews": 0, "words": 1, "version": "v"}
        rows = [empty | known | {"prompt_id": prompt_id} for prompt_id in prompt_ids]
        with engine.begin() as connection:
            upsert(connection, TraceSignalRow, rows)

    return write
