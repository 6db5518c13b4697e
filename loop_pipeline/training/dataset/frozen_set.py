"""A frozen training set: files in a folder, and the hash of their content is its name.

Not here: which rows go in (``selection.py``).

Nothing else goes into the name, so that the same rows make the same set in whatever order and
whenever they come. Every line has the ``prompt_id`` of the trace it comes from.

- ``train.jsonl``, ``validation.jsonl``: prompt, completion, group, multiplicity (TRL's
  prompt-completion form; multiplicity is the number of requests that the row stands for);
- ``preferences.jsonl``: prompt, chosen, rejected (TRL's preference form, for DPO);
- ``feedback.jsonl``: prompt, completion, label (TRL's unpaired form, for KTO);
- ``dataset.json``: sha256, rows by file and reason, size and sha256 of each file,
  trained_until. Written last.

Splits are drawn by unit, not by time: traffic is evaluated while it is learned from, and a split by
time alone would leave nothing recent to learn. ``trained_until`` is the moment of the newest
training row, so that held-out rows later than it can be reported apart.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel
from sqlalchemy import Engine

from loop_pipeline.store.database import records, upsert
from loop_pipeline.store.tables import DatasetExclusionRow, DatasetMemberRow, DatasetRow
from loop_pipeline.store.training_data import count_validated_pairs
from loop_pipeline.traces.student_turns import student_turns
from loop_pipeline.training.dataset.frozen_check import name_of
from loop_pipeline.training.dataset.selection import Selection
from loop_pipeline.whole_file import write_whole

MIN_ROWS = 200


class NotEnoughPairs(ValueError):
    """There is too little to learn from; says what is missing and how much."""


class TrainingSet(BaseModel):
    """A frozen training set on disk."""

    dataset_id: str
    folder: str
    counts: dict[str, int]
    trained_until: str


def freeze(selection: Selection, parent: Path) -> TrainingSet:
    """Write a selection to a folder named by its content.

    Raises:
        NotEnoughPairs: fewer than ``MIN_ROWS`` training rows, or all with the same answer.
    """
    train = selection.rows[selection.rows["split"] == "train"]
    validation = selection.rows[selection.rows["split"] == "validation"]
    _check(train, selection.counts)
    files = {
        "train": [_lesson(row) for row in _dicts(train)],
        "validation": [_lesson(row) for row in _dicts(validation)],
        "preferences": [_preference(row) for row in _dicts(selection.preferences)],
        "feedback": [_kto_row(row) for row in _dicts(selection.feedback)],
    }
    lines = {
        name: [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows]
        for name, rows in files.items()
    }
    dataset_id = name_of(lines)
    folder = parent / dataset_id[:16]
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, part in lines.items():
        text = "".join(line + "\n" for line in part)
        write_whole(folder / f"{name}.jsonl", text)
        raw = text.encode("utf-8")
        written[name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    counts = selection.counts | {name: len(part) for name, part in lines.items()}
    until = pd.Timestamp(train["ts"].max()).isoformat()
    facts = {"sha256": dataset_id, "rows": counts, "trained_until": until, "files": written}
    # Written last: a folder with this file is whole.
    write_whole(folder / "dataset.json", json.dumps(facts))
    return TrainingSet(
        dataset_id=dataset_id, folder=str(folder), counts=counts, trained_until=until
    )


def record_training_set(engine: Engine, frozen: TrainingSet, selection: Selection) -> None:
    """Write a set to the store: its figures, its prompts, and why the others are not in it."""
    learned = pd.concat([selection.rows, selection.preferences, selection.feedback])
    members = learned[["prompt_id", "split"]].drop_duplicates("prompt_id")
    row = {
        "dataset_id": frozen.dataset_id,
        "created_at": dt.datetime.now(dt.UTC),
        "folder": frozen.folder,
        "counts": frozen.counts | {"trained_until": frozen.trained_until},
        "validated_pairs": count_validated_pairs(engine),
    }
    of_set = {"dataset_id": frozen.dataset_id}
    with engine.begin() as connection:
        upsert(connection, DatasetRow, [row])
        upsert(connection, DatasetMemberRow, records(members.assign(**of_set)))
        upsert(connection, DatasetExclusionRow, records(selection.excluded.assign(**of_set)))


def _check(train: pd.DataFrame, counts: dict[str, int]) -> None:
    if len(train) < MIN_ROWS:
        raise NotEnoughPairs(
            f"{len(train)} training pairs, {MIN_ROWS} are the least: {MIN_ROWS - len(train)} more "
            f"accepted, edited or reviewed answers are needed ({counts})"
        )
    if train["chosen"].nunique() < 2:
        raise NotEnoughPairs(
            f"all {len(train)} training pairs have the same answer, "
            f"{str(train['chosen'].iloc[0])[:60]!r}: nothing to learn ({counts})"
        )


def _dicts(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return rows.to_dict("records")  # pyright: ignore[reportReturnType]


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _lesson(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_id": row["prompt_id"],
        "prompt": student_turns(row["messages"]),
        "completion": _said(row["chosen"]),
        "group": row["template_hash"],
        "multiplicity": int(row["multiplicity"]),
    }


def _preference(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_id": row["prompt_id"],
        "prompt": student_turns(row["messages"]),
        "chosen": _said(row["chosen"]),
        "rejected": _said(row["rejected"]),
    }


def _kto_row(row: dict[str, Any]) -> dict[str, Any]:
    good = row["kind"] == "kto_pos"
    return {
        "prompt_id": row["prompt_id"],
        "prompt": student_turns(row["messages"]),
        "completion": _said(row["chosen"] if good else row["rejected"]),
        "label": good,
    }
