from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
import torch
from mlflow.tracking import MlflowClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from loop_pipeline.store.tracking import Tracking, log_evaluation, register_adapter, set_alias
from loop_pipeline.training import base, qlora
from loop_pipeline.training.config import QLoRAConfig

CONFIG = QLoRAConfig.from_profile(
    "tiny",
    learning_rate=1e-2,
    num_train_epochs=6,
    per_device_train_batch_size=8,
    logging_steps=4,
    save_steps=8,
)
COLOURS = {"sea": "blue", "grass": "green", "snow": "white", "coal": "black"}


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 64 rows and a two-layer base that has learned other answers to them."""
    folder = tmp_path_factory.mktemp("qlora")
    rows = [
        {
            "prompt_id": f"p{i}",
            "prompt": [
                {"role": "system", "content": "Name the colour."},
                {"role": "user", "content": f"{thing} number {i}"},
            ],
            "completion": [{"role": "assistant", "content": colour}],
            "group": "colours",
        }
        for i, (thing, colour) in enumerate(list(COLOURS.items()) * 16)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(text)
    (folder / "validation.jsonl").write_text("")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({"sha256": sha256, "rows": {"train": 64}}))
    others = [{**row, "completion": rows[i - 1]["completion"]} for i, row in enumerate(rows)]
    small = {"HIDDEN": 64, "LAYERS": 2, "INTERMEDIATE": 128, "VOCABULARY": 400, "BATCH": 16}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**small, "TOKENS_SEEN": 40_000, "MOST_EPOCHS": 100}.items():
            patch.setattr(base, name, value)
        base.pretrain_tiny(others, folder / "base", CONFIG, silent)
    return folder


@pytest.fixture(scope="module")
def tracking(work: Path) -> Tracking:
    return Tracking(
        tracking_uri=f"sqlite:///{work / 'mlflow.db'}", tags={"dagster_run_id": "run-1"}
    )


@pytest.fixture(scope="module")
def trained(work: Path, tracking: Tracking) -> dict[str, Any]:
    return qlora.train_adapter(CONFIG, work, work / "base", work / "out", tracking, silent)


def test_the_base_is_made_once(work: Path):
    lines: list[str] = []
    before = (work / "base" / "model.safetensors").stat().st_mtime_ns
    meta = base.pretrain_tiny([], work / "base", CONFIG, lines.append)
    assert meta["rows"] == 64
    assert "reused" in lines[0]
    assert (work / "base" / "model.safetensors").stat().st_mtime_ns == before


def test_the_served_base_equals_the_one_trained_on(work: Path):
    tokens = AutoTokenizer.from_pretrained(work / "base")("sea number 1", return_tensors="pt")
    served = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    quantised = qlora.load_quantised(str(work / "base"))
    with torch.no_grad():
        gap = (served(**tokens).logits - quantised(**tokens).logits).abs().max()
        spread = served(**tokens).logits.std()
    assert gap < 0.02 * spread


def test_only_the_answers_carry_loss_and_linear_layers_are_nf4(work: Path, tmp_path: Path):
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    rows = base.read_rows(work)
    trainer, cut = qlora.build_trainer(CONFIG, rows, str(work / "base"), tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        text = tokenizer.decode(tokens)
        learned = tokenizer.decode(labels[labels != -100])
        thing = next(thing for thing in COLOURS if f"user\n{thing}" in text)
        assert learned == f"{COLOURS[thing]}<|im_end|>"
    assert cut == 0
    assert trainer.model is not None
    layers = [m for m in trainer.model.modules() if isinstance(m, Linear4bit)]
    weights = [w for layer in layers if isinstance(w := layer.weight, Params4bit)]
    assert len(weights) == len(layers) == 2 * 7
    assert {weight.quant_type for weight in weights} == {"nf4"}
    assert all(w.quant_state is not None and w.quant_state.nested for w in weights)  # double
    trainable = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert len(trainable) == 2 * len(layers)
    assert all("lora_" in name for name in trainable)


def test_a_long_row_keeps_its_answer(work: Path):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    row = base.read_rows(work)[0]
    row["prompt"][1]["content"] = "sea " * 500
    [(prompt, answer)], cut = base.encode(tokenizer, [row], 32)
    assert cut == 1
    assert len(prompt) + len(answer) == 32
    assert tokenizer.decode(answer) == "blue<|im_end|>"


def test_loss_falls_and_the_adapter_is_whole(work: Path, trained: dict[str, Any]):
    adapter = work / "out" / "adapter"
    assert trained["train_loss_last"] < 0.7 * trained["train_loss_first"]
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    assert trained["adapter_sha256"] == hashlib.sha256(weights).hexdigest()
    assert json.loads((adapter / "meta.json").read_text()) == trained
    assert not list((work / "out").glob("checkpoint-*"))


def test_mlflow_has_the_whole_story(work: Path, tracking: Tracking, trained: dict[str, Any]):
    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(trained["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["lora_r"] == str(CONFIG.lora_r)
    assert run.data.tags["dagster_run_id"] == "run-1"
    assert len(client.get_metric_history(run.info.run_id, "loss")) > 1
    assert run.inputs is not None
    [dataset] = run.inputs.dataset_inputs
    assert trained["dataset_sha256"].startswith(dataset.dataset.digest)
    files = {f.path for f in client.list_artifacts(run.info.run_id, "adapter")}
    assert {"adapter/adapter_model.safetensors", "adapter/meta.json"} <= files
    model = tracking.registered_model
    assert client.get_model_version(model, trained["model_version"]).run_id == run.info.run_id
    adapter = work / "out" / "adapter"
    again = register_adapter(tracking, run.info.run_id, adapter, trained["adapter_sha256"])
    assert again == trained["model_version"]
    set_alias(tracking.tracking_uri, model, again)
    assert str(client.get_model_version_by_alias(model, "champion").version) == again
    log_evaluation(
        tracking.tracking_uri, run.info.run_id, {"agreement": 0.9}, [work / "train.jsonl"]
    )
    assert client.get_run(run.info.run_id).data.metrics["agreement"] == 0.9


def test_the_same_run_is_not_trained_twice(work: Path, tracking: Tracking, trained: dict[str, Any]):
    lines: list[str] = []
    again = qlora.train_adapter(CONFIG, work, work / "base", work / "out", tracking, lines.append)
    assert again == trained
    assert "reused" in lines[0]


def _pipes_environment(extras: dict[str, Any], messages: Path) -> dict[str, str]:
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


def test_a_killed_training_goes_on_where_it_was(work: Path, tracking: Tracking, tmp_path: Path):
    config = CONFIG.model_copy(update={"num_train_epochs": 40.0})
    out = tmp_path / "out"
    extras = {
        "config": config.model_dump(),
        "dataset_dir": str(work),
        "base_dir": str(work / "base"),
        "output_dir": str(out),
        "mlflow": tracking.model_dump(),
    }
    command = [sys.executable, "-m", "loop_pipeline.training.qlora"]
    environment = {**os.environ, **_pipes_environment(extras, tmp_path / "messages")}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoint-*/complete.json")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_id = (out / "mlflow_run_id").read_text()
    half_written = out / "checkpoint-999"
    half_written.mkdir()
    (half_written / "adapter_model.safetensors").write_bytes(b"half")

    lines: list[str] = []
    config = config.model_copy(update={"max_minutes": 0.02})  # one step more is enough
    meta = qlora.train_adapter(config, work, work / "base", out, tracking, lines.append)
    assert "checkpoint-999 was not written to its end: removed" in lines
    assert meta["resumed_at_step"] >= 8
    assert meta["steps"] > meta["resumed_at_step"]
    assert meta["mlflow_run_id"] == run_id
    assert MlflowClient(tracking.tracking_uri).get_run(run_id).info.status == "FINISHED"


def test_a_finished_adapter_is_reported_through_pipes(
    work: Path,
    tracking: Tracking,
    trained: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    extras = {
        "config": CONFIG.model_dump(),
        "dataset_dir": str(work),
        "base_dir": str(work / "base"),
        "output_dir": str(work / "out"),
        "mlflow": tracking.model_dump(),
    }
    for name, value in _pipes_environment(extras, tmp_path / "messages").items():
        monkeypatch.setenv(name, value)
    qlora.main()
    messages = [json.loads(line) for line in (tmp_path / "messages").read_text().splitlines()]
    [report] = [m["params"] for m in messages if m["method"] == "report_asset_materialization"]
    assert report["data_version"] == trained["adapter_sha256"]
    assert report["metadata"]["steps"]["raw_value"] == trained["steps"]


def test_a_checkpoint_with_a_short_file_is_skipped(tmp_path: Path):
    for step, written in ((8, 4), (16, 2)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"x" * written)
        (folder / "complete.json").write_text(json.dumps({"optimizer.pt": 4}))
    found = qlora.last_complete_checkpoint(tmp_path, silent)
    assert found == str(tmp_path / "checkpoint-8")
    assert not (tmp_path / "checkpoint-16").exists()


def test_an_empty_training_set_is_said_so(work: Path, tracking: Tracking, tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"train\.jsonl is empty: no validated pair"):
        qlora.train_adapter(CONFIG, tmp_path, work / "base", tmp_path / "o", tracking, silent)


def test_a_broken_row_is_named(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text('{"prompt_id": "p1"}\n')
    with pytest.raises(ValueError, match=r"train\.jsonl:1: not a prompt/completion row"):
        base.read_rows(tmp_path)


def test_an_unfinished_base_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no finished base model: config\.json is missing"):
        base.resolve_base(CONFIG, tmp_path)


def test_a_base_without_chat_template_is_refused(work: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((work / "base" / "config.json").read_text())
    with pytest.raises(ValueError, match="no chat template"):
        base.resolve_base(CONFIG.model_copy(update={"base_model": str(tmp_path)}), tmp_path)
