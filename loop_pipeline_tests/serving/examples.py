"""Traces and answers as rows of a store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from benchmarks.fixtures import BORN
from loop_pipeline.hashing import digest
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import StudentAnswerRow, TraceRow

OLD, NEW, NEWER = "a" * 64, "b" * 64, "c" * 64


def trace_row(prompt_id: str, output: str, **fields: Any) -> dict[str, Any]:
    text = fields.pop("text", f"request {prompt_id}")
    return (
        {
            "prompt_id": prompt_id,
            "ts": BORN,
            "app": "desk",
            "template_hash": "t",
            "messages": [{"role": "user", "content": text}],
            "output": output,
            "producer": "frontier",
            "model": "big",
            "tokens_in": 1,
            "tokens_cached": 0,
            "tokens_out": 1,
            "cost_usd": 0.0,
            "split": "gold",
            "dedup_key": digest(text),
            "simulated": True,
            "source": "test",
            "route": None,
            "logprobs": None,
        }
        | fields
        | {"day": fields.get("ts", BORN).date().isoformat()}
    )


def add_traces(engine: Engine, *rows: dict[str, Any]) -> None:
    with engine.begin() as connection:
        upsert(connection, TraceRow, rows)


def add_answers(
    engine: Engine, checkpoint_id: str, outputs: dict[str, tuple[str, bool]], **fields: Any
) -> None:
    """Recorded answers: (output, whether it agrees) by prompt id."""
    row = {
        "checkpoint_id": checkpoint_id,
        "split": "gold",
        "frontier_output": "x",
        "logprob_min": -0.01,
        "logprob_p10": -0.01,
        "logprob_mean": -0.01,
        "logprob_sum": -0.02,
        "tokens_in": 1,
        "tokens_out": 2,
        "finish_reason": "stop",
        "latency_ms": 1.0,
    } | fields
    rows = [
        row | {"prompt_id": key, "output": output, "agrees": good}
        for key, (output, good) in outputs.items()
    ]
    with engine.begin() as connection:
        upsert(connection, StudentAnswerRow, rows)
