from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine

from loop_pipeline.demo.simulated_traffic import simulate
from loop_pipeline.hashing import digest
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import TraceRow, TraceUnitRow
from loop_pipeline.traces.ingest import import_file
from loop_pipeline.traces.records import split_of
from loop_pipeline.training.dataset.leakage import FENCES, shared
from loop_pipeline.training.dataset.splits import (
    assign_splits,
    background,
    split_traces,
    traces_with_splits,
)
from loop_pipeline_tests.shared import secret

Make = Callable[..., pd.DataFrame]


def _rows(rng: random.Random, n: int, start: int) -> list[dict[str, Any]]:
    """New requests, variants of old ones, and turns of old conversations."""
    things = ["card", "parcel", "refund", "invoice", "account", "password", "order", "device"]
    rows = []
    for number in range(start, start + n):
        old = rng.randrange(max(start, 1))
        text = f"please help me with the {rng.choice(things)} case a{rng.randrange(400)} of mine"
        if rng.random() < 0.3:
            text = f"hello {text} many thanks"
        conversation = f"c{old}" if rng.random() < 0.2 else f"c{number}"
        rows.append({"text": text, "conversation_id": conversation, "number": number})
    return rows


def test_what_is_settled_never_moves_and_no_twin_crosses_the_fence(traces_of: Make) -> None:
    rng = random.Random(5)
    known = pd.DataFrame()
    for batch in range(4):
        rows = _rows(rng, 250, 250 * batch)
        new = traces_of(*rows).drop(columns=["unit", "split"])
        names = [f"p{row['number']:05d}" for row in rows]
        times = new["ts"] + pd.Timedelta(days=batch)
        new = new.assign(prompt_id=names, ts=times, unit=None)
        new["split"] = [split_of(digest(text)) for text in new["text"]]
        frame = pd.concat([known, new], ignore_index=True)
        settled = assign_splits(frame).set_index("prompt_id")
        assert len(settled) == len(new)
        assert set(settled.index) == set(names)
        frame = frame.set_index("prompt_id")
        frame.update(settled)
        known = frame.reset_index()
    common = background(known)
    for split in ("train", "validation"):
        rows_of = known[known["split"] == split]
        crossing = shared(rows_of, known[known["split"].isin(FENCES[split])], common)
        # A row that ties two settled units together is the one way to touch.
        assert len(crossing) <= 0.03 * len(known)
    shares = known["split"].value_counts(normalize=True)
    assert abs(shares["train"] - 0.7) < 0.1
    assert (known.groupby("unit")["split"].nunique() == 1).all()


def test_a_twin_of_gold_becomes_gold_and_a_twin_of_a_trained_row_is_trained(
    traces_of: Make,
) -> None:
    old = traces_of(
        {"text": "where is the card that i ordered", "split": "gold"},
        {"text": "my parcel never came to the house", "split": "train"},
    )
    new = traces_of(
        {"text": "Hi! Where is the card that I ordered?", "split": "train", "prompt_id": "n0"},
        {"text": "my parcel never came to the house thanks", "split": "gold", "prompt_id": "n1"},
        {"text": "something else entirely", "split": "calibration", "prompt_id": "n2"},
    ).assign(unit=None)
    new["split"] = ["train", "gold", "calibration"]
    new["ts"] += pd.Timedelta(days=1)
    settled = assign_splits(pd.concat([old, new], ignore_index=True)).set_index("prompt_id")
    assert settled["split"].to_dict() == {"n0": "gold", "n1": "train", "n2": "calibration"}
    assert settled["unit"].to_dict() == {"n0": "p00000", "n1": "p00001", "n2": "n2"}


def test_a_row_that_ties_two_units_is_protected(traces_of: Make) -> None:
    old = traces_of(
        {"text": "where is my card now please", "conversation_id": "a", "split": "train"},
        {"text": "the invoice is wrong again", "conversation_id": "b", "split": "calibration"},
    )
    new = traces_of({"text": "the invoice is wrong again", "conversation_id": "a"})
    new = new.assign(prompt_id="n", unit=None, split="train")
    settled = assign_splits(pd.concat([old, new], ignore_index=True))
    assert settled[["prompt_id", "split"]].values.tolist() == [["n", "calibration"]]


def test_what_everything_carries_ties_nothing(traces_of: Make) -> None:
    subjects = ["alpha", "bravo", "carbon", "delta", "echo", "forest", "golf", "hotel"]
    rng = random.Random(2)
    texts = [" ".join(rng.sample(subjects, 5)) + f" {i}" for i in range(600)]
    one_id = traces_of(*({"text": t, "conversation_id": "default"} for t in texts))
    assert one_id["unit"].nunique() > 500
    # "hi" opens every conversation: the conversations are apart, each of them is whole.
    turns = [
        {"text": said, "conversation_id": f"c{i}"}
        for i, text in enumerate(texts)
        for said in ("hi", text)
    ]
    chats = traces_of(*turns)
    assert chats["unit"].nunique() > 500
    assert (chats.groupby("conversation_id")["unit"].nunique() == 1).all()


def test_the_store_keeps_what_was_settled(engine: Engine, tmp_path: Any) -> None:
    simulate(tmp_path / "a.jsonl", traces=600, days=3, seed=1)
    import_file(engine, tmp_path / "a.jsonl", secret=secret)
    drawn = read(engine, TraceRow, columns=["prompt_id", "split"])
    first = split_traces(engine)
    assert len(read(engine, TraceUnitRow)) == 600
    stored = read(engine, TraceRow, columns=["prompt_id", "split"])
    assert stored["split"].tolist() == first["split"].tolist()
    assert 0 < (stored["split"] != drawn["split"]).mean() < 0.2
    simulate(tmp_path / "b.jsonl", traces=300, days=3, seed=2)
    import_file(engine, tmp_path / "b.jsonl", secret=secret)
    assert traces_with_splits(engine)["prompt_id"].tolist() == first["prompt_id"].tolist()
    second = split_traces(engine).set_index("prompt_id")
    assert len(second) == 900
    assert second.loc[first["prompt_id"], "split"].tolist() == first["split"].tolist()
    pd.testing.assert_frame_equal(
        traces_with_splits(engine).set_index("prompt_id")[["unit", "split"]],
        second[["unit", "split"]],
    )


def test_an_empty_store_settles_nothing(engine: Engine) -> None:
    assert split_traces(engine).empty


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_units_get_their_share_of_the_rows(traces_of: Make, share: float) -> None:
    rng = random.Random(3)
    rows = [
        {"text": f"request {digest(str(i))} of its own kind", "split": split_of(digest(str(i)))}
        for i in range(1500)
    ]
    for row in rows:
        if rng.random() < share:
            row["conversation_id"] = f"c{rng.randrange(200)}"
    found = traces_of(*rows)["split"].value_counts(normalize=True)
    assert abs(found["train"] - 0.7) < 0.08
    assert found["gold"] > 0.04
