from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("trl")
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from transformers import AutoTokenizer

from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.qlora import preference
from loop_pipeline.training.qlora.preference import (
    choose_rows,
    kto_weights,
    preference_recipe,
    train_preference,
)
from loop_pipeline.training.qlora.run import Job
from loop_pipeline.training.qlora.sft import train_adapter
from loop_pipeline_tests.training.conftest import CONFIG, colour_rows

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

Row = dict[str, Any]


def pairs(count: int) -> list[Row]:
    """The right colour is preferred to the next one."""
    rows = colour_rows(0, count + 1)
    return [
        {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": rows[i + 1]["completion"],
        }
        for i, row in enumerate(rows[:-1])
    ]


def feedback(accepted: int, refused: int) -> list[Row]:
    rows = pairs(accepted + refused)
    return [
        {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            "completion": row["chosen" if i < accepted else "rejected"],
            "label": i < accepted,
        }
        for i, row in enumerate(rows)
    ]


def write(folder: Path, **files: list[Row]) -> Path:
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def supervised(work: Path, tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A finished supervised adapter, with a set of its own to put files beside."""
    from loop_pipeline.training.qlora.sft import sft_job

    folder = tmp_path_factory.mktemp("preference")
    shutil.copytree(work / "set", folder / "set")
    config = CONFIG.model_copy(update={"num_train_epochs": 1.0, "learning_rate": 2e-3})
    job = sft_job(config, folder / "set", work / "base", folder / "out", tracking, print)
    train_adapter(job)
    return job


@pytest.fixture
def parent(supervised: Job, tmp_path: Path) -> Job:
    """The supervised job in folders of the test's own."""
    root = supervised.run_dir.parent
    shutil.copytree(root, tmp_path / "copy")
    train_file = tmp_path / "copy" / "set" / "train.jsonl"
    return replace(supervised, train_file=train_file, run_dir=tmp_path / "copy" / "out")


def margin(base: str, adapter: Path, rows: list[Row]) -> float:
    """Mean log-probability of the preferred answers less that of the others."""
    from peft import PeftModel

    from loop_pipeline.training.qlora.load_model import load_quantised
    from loop_pipeline.training.qlora.tokens import encode

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(load_quantised(base), str(adapter)).eval()  # pyright: ignore
    sums = {"chosen": 0.0, "rejected": 0.0}
    for name in sums:
        asked = [{"prompt": row["prompt"], "completion": row[name]} for row in rows]
        for prompt, answer in encode(tokenizer, asked, 256)[0]:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
            places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
            sums[name] += float(logits.log_softmax(-1)[places, answer].sum())
    return (sums["chosen"] - sums["rejected"]) / len(rows)


def test_pairs_make_a_second_adapter_that_prefers_what_people_did(
    parent: Job, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(preference, "LEAST", 60)
    write(parent.train_file.parent, preferences=pairs(64), feedback=feedback(40, 64))
    meta = train_preference(parent)
    assert meta is not None
    first = json.loads((parent.run_dir / "adapter" / "meta.json").read_text())
    assert (meta["stage"], meta["parent_sha256"]) == ("dpo", first["adapter_sha256"])
    assert (meta["rows"], meta["pairs"], meta["refusals"], meta["too_long"]) == (64, 64, 64, 0)
    assert meta["config"]["learning_rate"] == pytest.approx(first["config"]["learning_rate"] / 20)
    assert meta["adapter_sha256"] != first["adapter_sha256"]
    second = Path(meta["adapter_dir"])
    assert second == parent.run_dir / "preference" / "adapter"
    assert not (second / "ref").exists()
    held_out = pairs(96)[80:]
    before = margin(parent.base, parent.run_dir / "adapter", held_out)
    assert margin(parent.base, second, held_out) > before

    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(meta["mlflow_run_id"])
    assert run.data.tags["mlflow.parentRunId"] == first["mlflow_run_id"]
    assert run.data.params["parent_sha256"] == first["adapter_sha256"]
    assert meta["model_version"] not in (None, first["model_version"])
    assert train_preference(parent) == meta


def test_refusals_alone_make_one_by_kto(parent: Job, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preference, "LEAST", 48)
    write(parent.train_file.parent, feedback=feedback(16, 48))
    meta = train_preference(replace(parent, register=False))
    assert meta is not None
    assert (meta["stage"], meta["rows"], meta["refusals"]) == ("kto", 64, 48)
    first = load_file(parent.run_dir / "adapter" / "adapter_model.safetensors")
    second = load_file(Path(meta["adapter_dir"]) / "adapter_model.safetensors")
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_too_little_data_is_said_and_trains_nothing(parent: Job):
    lines: list[str] = []
    folder = parent.train_file.parent
    assert train_preference(replace(parent, log=lines.append)) is None
    assert lines[-1].startswith(
        "no preference stage: 0 pairs and 0 refusals are usable, 300 of one"
    )
    write(folder, preferences=pairs(299), feedback=feedback(10, 299))
    assert train_preference(replace(parent, log=lines.append)) is None
    assert "299 pairs and 299 refusals" in lines[-1]
    assert not (parent.run_dir / "preference").exists()


def test_rows_are_chosen_by_what_there_is(work: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    long = pairs(1)[0]
    long["rejected"] = [{"role": "assistant", "content": "blue " * 200}]
    write(tmp_path, preferences=[*pairs(300), long], feedback=feedback(5, 400))
    kind, rows, facts = choose_rows(tmp_path, tokenizer, 64)
    assert (kind, len(rows)) == ("dpo", 300)
    assert facts == {"pairs": 300, "refusals": 400, "too_long": 1}
    write(tmp_path, preferences=[])
    assert choose_rows(tmp_path, tokenizer, 64)[0] == "kto"
    write(tmp_path, feedback=feedback(0, 400))
    assert choose_rows(tmp_path, tokenizer, 64)[0] is None


@pytest.mark.parametrize(
    ("file", "row", "words"),
    [
        ("preferences", {"prompt_id": "p", "prompt": [{"content": "q"}]}, "preference row"),
        ("feedback", {"prompt_id": "p", "prompt": [{"content": "q"}]}, "feedback row"),
        ("feedback", {**feedback(1, 0)[0], "label": None}, None),
    ],
)
def test_a_broken_row_is_named(work: Path, tmp_path: Path, file: str, row: Row, words: str | None):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    row = dict(row)
    if words is None:
        del row["label"]
        words = "feedback row .*'label'"
    write(tmp_path, **{file: [row]})
    with pytest.raises(ValueError, match=rf"{file}\.jsonl:1: not a {words}"):
        choose_rows(tmp_path, tokenizer, 64)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_kto_weights_are_in_the_recommended_balance(desirable: int, undesirable: int):
    a, b = kto_weights(desirable, undesirable)
    assert min(a, b) == 1 or max(a, b) == 1
    assert a * desirable / (b * undesirable) * (1 + 1e-9) >= 1
    assert a * desirable / (b * undesirable) <= 4 / 3


def test_the_recipe_of_the_second_stage():
    second = preference_recipe(CONFIG.from_profile("qwen2.5-7b").model_dump())
    assert (second.learning_rate, second.num_train_epochs) == (pytest.approx(5e-6), 1.0)
    assert (second.per_device_train_batch_size, second.gradient_accumulation_steps) == (2, 8)
