"""What an adapter is asked before it may serve: held-out requests with known answers.

Not here: asking (``fleet.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.serving.fleet import Adapter, Question
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import StudentAnswerRow
from loop_pipeline.store.traces import read_traces

# Of the gold split; the shortest, the middle and the longest of them are asked.
HELD_OUT = 200
# Every token had a probability of 90%: no other batch and no other card flips such an answer.
SURE = -0.1
PLAIN = Question([{"role": "user", "content": "hello"}])


def adapters_of(engine: Engine, checkpoints: Iterable[Mapping[str, Any]]) -> list[Adapter]:
    """Rows of ``checkpoints`` as adapters, each with the questions that suit it."""
    traces = read_traces(engine, split="gold", producer="frontier", limit=HELD_OUT)
    return [
        Adapter(
            adapter_name(row["checkpoint_id"]),
            row["adapter_dir"],
            _questions(engine, row["checkpoint_id"], traces),
            row["adapter_sha256"],
            (row["metrics"] or {}).get("config_sha256") or "",
        )
        for row in checkpoints
    ]


def _questions(engine: Engine, checkpoint_id: str, traces: pd.DataFrame) -> list[Question]:
    asked = traces["prompt_id"].tolist()
    answers = read(engine, StudentAnswerRow, checkpoint_id=checkpoint_id, prompt_id=asked)
    sure = answers[(answers["finish_reason"] == "stop") & (answers["logprob_min"] > SURE)]
    expected = dict(zip(sure["prompt_id"], sure["output"], strict=True))
    known = traces[traces["prompt_id"].isin(set(expected))] if expected else traces
    if known.empty:
        return [PLAIN]
    ordered = known.assign(size=known["messages"].map(lambda m: len(str(m)))).sort_values("size")
    rows = ordered.iloc[sorted({0, len(ordered) // 2, len(ordered) - 1})]
    return [
        Question(messages, expected.get(prompt_id))
        for messages, prompt_id in zip(rows["messages"], rows["prompt_id"], strict=True)
    ]
