"""From labeled pairs to a frozen training set. Its content hash is its name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from loop_pipeline.traces.records import digest

HELD_OUT = ("calibration", "gold")
MIN_ROWS = 200


class NotEnoughPairs(ValueError):
    """There is too little to learn from; says what is missing and how much."""


class TrainingSet(BaseModel):
    """A frozen training set on disk."""

    dataset_id: str
    folder: str
    counts: dict[str, int]


def select_rows(
    pairs: pd.DataFrame, traces: pd.DataFrame, held_out: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows that a student may learn from, one per distinct request.

    Of several answers to one request a person's edit wins, then the higher score. A request is left
    out if its text or its conversation also occurs in a held-out split.

    Args:
        pairs: ``labeled_pairs`` rows of kind ``sft``.
        traces: their traces (prompt_id, messages, output, split, dedup_key, conversation_id).
        held_out: dedup_key and conversation_id of every trace of the held-out splits.

    Returns:
        The rows, with columns of both frames, and what was left out by reason.
    """
    rows = pairs.merge(traces, on="prompt_id", validate="many_to_one")
    counts = {"positive_pairs": len(rows)}
    mine = rows[~rows["split"].isin(HELD_OUT)]
    counts["kept_for_held_out"] = len(rows) - len(mine)
    conversations = set(held_out["conversation_id"].dropna())
    clash = mine["dedup_key"].isin(set(held_out["dedup_key"])) | (
        mine["conversation_id"].isin(conversations)
    )
    counts["shared_with_held_out"] = int(clash.sum())
    ranked = (
        mine[~clash]
        .assign(edited=lambda frame: frame["chosen"] != frame["output"])
        .sort_values(["edited", "score", "prompt_id"], ascending=[False, False, True])
    )
    best = ranked.drop_duplicates("dedup_key").sort_values("prompt_id")
    counts["duplicates"] = len(ranked) - len(best)
    return best, counts


def freeze(rows: pd.DataFrame, counts: dict[str, int], parent: Path) -> TrainingSet:
    """Write the rows to a folder named by their content.

    Raises:
        NotEnoughPairs: fewer than ``MIN_ROWS`` training rows, or all with the same answer.
    """
    train = rows[rows["split"] == "train"]
    validation = rows[rows["split"] == "validation"]
    if len(train) < MIN_ROWS:
        raise NotEnoughPairs(
            f"{len(train)} training pairs, {MIN_ROWS} are the least: {MIN_ROWS - len(train)} more "
            f"accepted, edited or reviewed answers are needed ({counts})"
        )
    if train["chosen"].nunique() < 2:
        raise NotEnoughPairs("every training pair has the same answer: nothing to learn")
    lines = {
        name: [_line(r) for _, r in part.iterrows()]
        for name, part in (("train", train), ("validation", validation))
    }
    dataset_id = digest(*lines["train"], "|", *lines["validation"])
    folder = parent / dataset_id[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in part))
    counts = counts | {name: len(part) for name, part in lines.items()}
    # Written last: a folder with this file is whole.
    (folder / "dataset.json").write_text(json.dumps({"sha256": dataset_id, "rows": counts}))
    return TrainingSet(dataset_id=dataset_id, folder=str(folder), counts=counts)


def _line(row: pd.Series) -> str:
    return json.dumps(
        {
            "prompt_id": row["prompt_id"],
            "prompt": row["messages"],
            "completion": [{"role": "assistant", "content": row["chosen"]}],
            "group": row["template_hash"],
        },
        ensure_ascii=False,
    )
