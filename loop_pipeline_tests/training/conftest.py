"""Traces and pairs as frames; a small set, a two-layer base that learned other answers to it."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.dataset.shingles import plain_text
from loop_pipeline.training.dataset.splits import assign_splits
from loop_pipeline_tests.shared import made_once

COLOURS = {"sea": "blue", "grass": "green", "snow": "white", "coal": "black"}
CONFIG = QLoRAConfig.from_profile(
    "tiny",
    learning_rate=1e-2,
    num_train_epochs=4,
    per_device_train_batch_size=8,
    gradient_accumulation_steps=1,
    logging_steps=4,
    save_steps=8,
)


def silent(_: str) -> None:
    """A log that nobody reads."""


def colour_rows(first: int, count: int) -> list[dict[str, Any]]:
    """Rows whose prompt and answer belong together."""
    things = list(COLOURS.items())
    return [
        {
            "prompt_id": f"p{i}",
            "prompt": [
                {"role": "system", "content": "Name the colour."},
                {"role": "user", "content": f"{things[i % 4][0]} number {i}"},
            ],
            "completion": [{"role": "assistant", "content": things[i % 4][1]}],
            "group": "colours",
        }
        for i in range(first, first + count)
    ]


def write_set(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> Path:
    """A frozen set as the pipeline writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("validation", validation)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sha256 = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({"sha256": sha256}))
    return folder


def make_tiny_things_smaller(patch: pytest.MonkeyPatch) -> None:
    """A base that is made within a second or two."""
    from loop_pipeline.training import pretraining, tiny_tokenizer

    small = {"HIDDEN": 64, "LAYERS": 2, "INTERMEDIATE": 128, "BATCH": 16, "MOST_EPOCHS": 100}
    for name, value in small.items():
        patch.setattr(pretraining, name, value)
    patch.setattr(tiny_tokenizer, "VOCABULARY", 400)


@pytest.fixture(scope="session")
def work(run_folder: Path) -> Path:
    """A set of 64 rows in ``set`` and a base in ``base``, made once for all workers."""
    pytest.importorskip("trl")
    from loop_pipeline.training import base_model as base

    def make(folder: Path) -> None:
        rows = colour_rows(0, 64)
        write_set(folder / "set", rows, colour_rows(64, 16))
        others = [{**row, "completion": rows[i - 1]["completion"]} for i, row in enumerate(rows)]
        write_set(folder / "other set", others, [])
        config = CONFIG.model_copy(update={"base_tokens": 40_000})
        with pytest.MonkeyPatch.context() as patch:
            make_tiny_things_smaller(patch)
            base.pretrain_tiny(folder / "other set", folder / "base", config, silent)

    return made_once(run_folder / "training", make)


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    database = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    return Tracking(tracking_uri=f"sqlite:///{database}", tags={"dagster_run_id": "run-1"})


@pytest.fixture
def job(work: Path, tracking: Tracking, tmp_path: Path) -> Callable[..., Any]:
    """Makes a supervised job in a fresh folder; arguments replace fields of its recipe."""
    from loop_pipeline.training.qlora.sft import sft_job

    def make(**recipe: Any) -> Any:
        config = CONFIG.model_copy(update=recipe)
        made = sft_job(config, work / "set", work / "base", tmp_path / "out", tracking, silent)
        return replace(made, register=False)

    return make


def pipes_environment(extras: dict[str, Any], messages: Path) -> dict[str, str]:
    """What Dagster passes to a process that it starts."""
    data = {
        "asset_keys": ["qlora_checkpoint"],
        "code_version_by_asset_key": {"qlora_checkpoint": None},
        "provenance_by_asset_key": {"qlora_checkpoint": None},
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "run-1",
        "job_name": None,
        "retry_number": 0,
        "extras": extras,
    }
    params = {
        "DAGSTER_PIPES_CONTEXT": {"data": data},
        "DAGSTER_PIPES_MESSAGES": {"path": str(messages)},
    }
    return {
        name: base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()
        for name, value in params.items()
    }


START = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)


def make_traces(*rows: dict[str, Any]) -> pd.DataFrame:
    """Settled traces, as ``split_traces`` returns them: ``text`` is what the user asked."""
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
    settled = assign_splits(frame).set_index("prompt_id")
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
