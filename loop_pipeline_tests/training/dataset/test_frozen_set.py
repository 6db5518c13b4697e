from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from loop_pipeline.store.database import read
from loop_pipeline.store.tables import DatasetExclusionRow, DatasetMemberRow
from loop_pipeline.store.training_data import newest_dataset
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.training.base_model import read_rows
from loop_pipeline.training.dataset.frozen_set import NotEnoughPairs, freeze, record_training_set
from loop_pipeline.training.dataset.selection import Selection, select_rows
from loop_pipeline.training.dataset.splits import split_traces

Make = Callable[..., pd.DataFrame]


def _pairs(traces: pd.DataFrame, pairs_of: Make) -> pd.DataFrame:
    kinds = [
        pairs_of(traces, "sft"),
        pairs_of(traces.head(20), "dpo", chosen="better", rejected="worse"),
        pairs_of(traces.head(30), "kto_pos"),
        pairs_of(traces.head(30), "kto_neg", chosen=None, rejected="worse"),
    ]
    return pd.concat(kinds, ignore_index=True)


def _select(pairs: pd.DataFrame, traces: pd.DataFrame) -> Selection:
    return select_rows(pairs, traces, reviewed=set(), trained=set())


@pytest.fixture
def traces(traces_of: Make) -> pd.DataFrame:
    """300 requests of 260 wordings, two answers, all to learn from."""
    rows = [
        {
            "text": f"request number {i % 260} please",
            "output": "refund" if i % 2 else "delivery",
            "split": "validation" if i % 260 < 20 else "train",
            "label": False,
        }
        for i in range(300)
    ]
    return traces_of(*rows)


def test_the_files_are_what_trl_reads(traces: pd.DataFrame, pairs_of: Make, tmp_path: Path) -> None:
    frozen = freeze(_select(_pairs(traces, pairs_of), traces), tmp_path)
    folder = Path(frozen.folder)
    rows = read_rows(folder)
    assert frozen.counts["train"] == len(rows) == 240
    assert frozen.counts["validation"] == len(read_rows(folder, "validation")) == 20
    assert sum(row["multiplicity"] for row in rows) == 260
    assert rows[0]["completion"] == [{"role": "assistant", "content": "delivery"}]
    files = {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("preferences", "feedback")
    }
    assert {tuple(sorted(row)) for row in files["preferences"]} <= {
        ("chosen", "prompt", "prompt_id", "rejected")
    }
    labels = [row["label"] for row in files["feedback"]]
    assert labels.count(True) == labels.count(False) > 0
    texts = {row["completion"][0]["content"] for row in files["feedback"] if not row["label"]}
    assert texts == {"worse"}
    facts = json.loads((folder / "dataset.json").read_text())
    assert facts["sha256"] == frozen.dataset_id
    assert facts["rows"] == frozen.counts
    assert facts["trained_until"] == traces["ts"].max().isoformat()
    assert not list(folder.glob("*.part"))


def test_the_name_is_the_content_and_not_its_order(
    traces: pd.DataFrame, pairs_of: Make, tmp_path: Path
) -> None:
    pairs = _pairs(traces, pairs_of)
    name = freeze(_select(pairs, traces), tmp_path / "a").dataset_id
    mixed = pairs.sample(frac=1, random_state=1), traces.sample(frac=1, random_state=2)
    again = freeze(_select(*mixed), tmp_path / "b")
    assert again.dataset_id == name
    for path in Path(again.folder).iterdir():
        assert path.read_bytes() == (tmp_path / "a" / name[:16] / path.name).read_bytes()
    pairs.loc[100, "chosen"] = "another answer"
    assert freeze(_select(pairs, traces), tmp_path / "c").dataset_id != name


def test_too_little_and_a_single_answer_say_what_is_missing(
    traces: pd.DataFrame, pairs_of: Make, tmp_path: Path
) -> None:
    pairs = pairs_of(traces)
    with pytest.raises(NotEnoughPairs, match="0 training pairs, 200 are the least: 200 more"):
        freeze(_select(pairs.head(0), traces), tmp_path)
    with pytest.raises(NotEnoughPairs, match=r"60 training pairs, .*'copies': 0"):
        freeze(_select(pairs.iloc[100:160], traces), tmp_path)
    with pytest.raises(NotEnoughPairs, match="all 240 training pairs have the same answer, 'no'"):
        freeze(_select(pairs.assign(chosen="no"), traces), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_store_knows_what_is_in_a_set_and_why_the_rest_is_not(
    engine: Engine,
    trace: Callable[..., dict[str, Any]],
    jsonl: Callable[..., Path],
    pairs_of: Make,
    tmp_path: Path,
) -> None:
    lines = [trace(i, contract=None, output="refund" if i % 2 else "delivery") for i in range(400)]
    again = [line | {"prompt_id": f"again{i}"} for i, line in enumerate(lines[:50])]
    import_file(engine, jsonl(*lines, *again))
    settled = split_traces(engine)
    selection = _select(pairs_of(settled), settled)
    frozen = freeze(selection, tmp_path)
    for _ in range(2):
        record_training_set(engine, frozen, selection)
    stored = newest_dataset(engine)
    assert stored is not None
    assert stored["counts"]["trained_until"] == frozen.trained_until
    members = read(engine, DatasetMemberRow)
    assert len(members) == frozen.counts["train"] + frozen.counts["validation"]
    excluded = read(engine, DatasetExclusionRow)
    assert len(excluded) == frozen.counts["copies"] > 20
    assert not set(excluded["prompt_id"]) & set(members["prompt_id"])
    assert excluded["reason"].str.startswith(("a copy of", "another answer")).all()
