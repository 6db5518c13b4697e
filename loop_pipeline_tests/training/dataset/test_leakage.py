from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.training.dataset.leakage import audit, pairs_above, shared
from loop_pipeline.training.dataset.near_duplicates import jaccard
from loop_pipeline.training.dataset.shingles import numbers, shingle
from loop_pipeline.training.dataset.splits import background

Make = Callable[..., pd.DataFrame]
LONG = "i have been waiting for my new card for more than two weeks now and nobody answers"


@pytest.mark.parametrize("threshold", [0.6, 0.7, 0.8])
def test_the_join_finds_exactly_the_pairs_that_are_there(threshold: float) -> None:
    rng = random.Random(7)
    words = [*LONG.split(), "card", "refund", "it", "12", "13", "a", "ok"]
    texts = [" ".join(rng.choices(words, k=rng.randrange(1, 9))) for _ in range(1200)]
    mine, theirs = texts[:700], [*texts[700:], "", "o"]
    left, right = shingle(mine), shingle(theirs)
    a, b = (part.ravel() for part in np.indices((len(mine), len(theirs))))
    alike = jaccard(left, a, right, b) >= threshold
    alike &= numbers(mine)[a] == numbers(theirs)[b]
    truth = set(zip(a[alike].tolist(), b[alike].tolist(), strict=True))
    found = pairs_above(mine, theirs, threshold)
    assert len(truth) > 50
    assert set(zip(found[0].tolist(), found[1].tolist(), strict=True)) == truth


def test_each_way_of_sharing_is_seen(traces_of: Make) -> None:
    traces = traces_of(
        {"text": "Where is my card?", "prompt_id": "text"},
        {"text": "please refund the payment to my account at once", "prompt_id": "near"},
        {
            "text": f"{LONG} and so on and so forth until the text is another one",
            "prompt_id": "run",
        },
        {"text": "something else", "conversation_id": "c1", "prompt_id": "turn"},
        {"text": "nothing in common", "conversation_id": "c2", "prompt_id": "free"},
        {"text": "where is my card", "prompt_id": "g0"},
        {"text": "Hi, please refund the payment to my account at once", "prompt_id": "g1"},
        {"text": f"good morning from the south {LONG} what is going on there", "prompt_id": "g2"},
        {"text": "an old turn of it", "conversation_id": "c1", "prompt_id": "g3"},
    )
    mine, held_out = traces.iloc[:5], traces.iloc[5:]
    found = shared(mine, held_out, background(traces)).set_index("prompt_id")
    assert found["way"].to_dict() == {
        "text": "text",
        "near": "near_duplicate",
        "run": "run_of_words",
        "turn": "conversation",
    }
    assert found["with"].to_dict() == {"text": "g0", "near": "g1", "run": "g2", "turn": "g3"}


def test_what_is_asked_everywhere_is_no_run_of_words(traces_of: Make) -> None:
    template = "you are an agent of the bank answer with one label only the request is this one"
    traces = traces_of(*({"text": f"{template} topic{i} item{i} word{i}"} for i in range(400)))
    assert shared(traces.iloc[:200], traces.iloc[200:], background(traces)).empty


def _write(folder: Path, name: str, *rows: tuple[str, str]) -> None:
    lines = [
        json.dumps({"prompt_id": p, "prompt": [{"role": "user", "content": t}]}) for p, t in rows
    ]
    (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))


def test_the_audit_reads_the_files_and_catches_every_file(traces_of: Make, tmp_path: Path) -> None:
    traces = traces_of(
        {"text": "where is my card", "split": "train"},
        {"text": "my parcel is late", "split": "train", "conversation_id": "c"},
        {"text": "the refund has not come", "split": "validation"},
        {"text": "please change the address of it", "split": "gold"},
    )
    # As if a later edit of the store had split a conversation.
    traces.loc[3, "conversation_id"] = "c"
    for name in ("train", "validation", "preferences", "feedback"):
        _write(tmp_path, name)
    _write(tmp_path, "train", ("p00000", "where is my card"))
    assert not any(audit(tmp_path, traces).values())
    _write(tmp_path, "train", ("p00000", "Please change the address of it!"))
    assert audit(tmp_path, traces)["text"] == 1
    _write(tmp_path, "train", ("p00000", "hello, please change the address of it"))
    assert audit(tmp_path, traces)["near_duplicate"] == 1
    _write(tmp_path, "train", ("p00001", "my parcel is late"))
    assert audit(tmp_path, traces)["conversation"] == 1
    _write(tmp_path, "train", ("p00002", "the refund has not come"))
    assert audit(tmp_path, traces)["prompt_id"] == 1
    _write(tmp_path, "train", ("p00000", "where is my card"))
    _write(tmp_path, "validation", ("p00002", "the refund has not come"))
    assert not any(audit(tmp_path, traces).values())
    for name in ("preferences", "feedback"):
        _write(tmp_path, name, ("p00000", "the refund has not come."))
        assert audit(tmp_path, traces)["text"] == 1
        _write(tmp_path, name)
