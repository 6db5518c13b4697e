"""Traces and labeled pairs as frames, without a store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from loop_pipeline.training.shingles import plain_text
from loop_pipeline.training.units import settle

START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)


def make_traces(*rows: dict[str, Any]) -> pd.DataFrame:
    """Settled traces, as ``settle_traces`` returns them: ``text`` is what the user asked."""
    made = []
    for number, row in enumerate(rows):
        ts = START + dt.timedelta(minutes=number)
        messages = [
            {"role": "system", "content": row.get("template_hash", "Classify.")},
            {"role": "user", "content": row["text"]},
        ]
        base = {
            "prompt_id": f"p{number:05d}",
            "ts": ts,
            "day": ts.date().isoformat(),
            "source": "file",
            "user_hash": None,
            "conversation_id": None,
            "template_hash": "t",
            "contract_id": "c",
            "output": "refund",
            "split": "train",
            "unit": None,
            "label": True,
        }
        known = {"messages": messages, "text": plain_text(messages)}
        made.append(base | row | known)
    frame = pd.DataFrame(made).astype({"unit": object, "conversation_id": object})
    settled = settle(frame).set_index("prompt_id")
    frame = frame.set_index("prompt_id")
    frame.update(settled)
    return frame.reset_index()


def make_pairs(traces: pd.DataFrame, kind: str = "sft", **columns: Any) -> pd.DataFrame:
    """A pair of a kind for every trace; its answer is the one that was given."""
    base = {"kind": kind, "rejected": None, "score": 0.9, "reason": "", "version": "v"}
    frame = traces[["prompt_id", "day"]].assign(chosen=traces["output"], **base)
    return frame.assign(pair_id=kind + frame["prompt_id"], **columns)


@pytest.fixture
def traces_of() -> Callable[..., pd.DataFrame]:
    return make_traces


@pytest.fixture
def pairs_of() -> Callable[..., pd.DataFrame]:
    return make_pairs
