"""Traces and answers as rows of a store, and adapters that may be loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from benchmarks.fixtures import BORN
from loop_pipeline.hashing import digest, file_sha256
from loop_pipeline.serving.adapter_check import CONFIG, WEIGHTS
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


def write_adapter(folder: Path, *, base: str, hidden: int = 64, mark: str = "") -> str:
    """A whole adapter folder, with one tensor. Returns its weights' sha256.

    Args:
        folder: made if it is not there.
        base: what it was trained on.
        hidden: width of the base that it fits.
        mark: another mark makes other weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"base_model_name_or_path": base}))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    size = 4 * hidden
    entry = {"dtype": "F32", "shape": [1, hidden], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"mark": mark}, name: entry}).encode()
    content = (bytes(range(256)) * hidden)[:size]
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + content)
    return file_sha256(folder / WEIGHTS)
