from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl")
import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from transformers import AutoTokenizer

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.mlflow_log.mlflow_runs import log_evaluation
from loop_pipeline.store.tracking import Tracking, register_adapter, set_alias
from loop_pipeline.training.qlora import progress, sft
from loop_pipeline.training.qlora.run import Job
from loop_pipeline.training.qlora.sft import (
    Tokens,
    build_trainer,
    packed_batch,
    tokenise,
    train_adapter,
)
from loop_pipeline_tests.training.conftest import COLOURS, CONFIG, colour_rows, silent, write_set

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

Make = Callable[..., Job]


@pytest.fixture(scope="module")
def trained_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(work: Path, tracking: Tracking, trained_in: Path) -> dict[str, Any]:
    job = sft.sft_job(CONFIG, work / "set", work / "base", trained_in, tracking, silent)
    return train_adapter(job)


def test_a_step_is_random_and_its_micro_batches_are_of_like_length(work: Path, tmp_path: Path):
    rows = [([8] * (7 if i % 2 else 39), [9]) for i in range(64)]
    recipe = CONFIG.model_copy(
        update={"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    )
    trainer = build_trainer(recipe, Tokens(rows, [], 64, 0), str(work / "base"), tmp_path)
    batches = [batch["input_ids"] for batch in trainer.get_train_dataloader()]
    assert sum(len(ids) for ids in batches) == len(rows)
    steps = [batches[k : k + 4] for k in range(0, len(batches), 4)]
    for step in steps:
        long = sum(int((ids[:, 8:] == 8).any(dim=1).sum()) for ids in step)
        assert 2 <= long <= 14, "both kinds in every step"
    tokens = sum(len(prompt) + len(answer) for prompt, answer in rows)
    assert sum(ids.numel() for ids in batches) < 1.3 * tokens  # at random 1.6


def test_a_training_that_diverged_leaves_no_adapter(job: Make):
    diverging = job(learning_rate=1e30, num_train_epochs=2)
    with pytest.raises(FloatingPointError, match="diverged: lower learning_rate"):
        train_adapter(diverging)
    assert not (diverging.run_dir / "adapter" / "meta.json").exists()


def test_only_the_answers_carry_loss_and_linear_layers_are_nf4(work: Path, tmp_path: Path):
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    tokens = tokenise(CONFIG, work / "set", tokenizer)
    assert (len(tokens.train), len(tokens.validation), tokens.truncated) == (64, 16, 0)
    trainer = build_trainer(CONFIG, tokens, str(work / "base"), tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        text = tokenizer.decode(ids)
        learned = tokenizer.decode(labels[labels != -100])
        thing = next(thing for thing in COLOURS if f"user\n{thing}" in text)
        assert learned == f"{COLOURS[thing]}<|im_end|>"
    assert trainer.model is not None
    layers = [m for m in trainer.model.modules() if isinstance(m, Linear4bit)]
    weights = [w for layer in layers if isinstance(w := layer.weight, Params4bit)]
    assert len(weights) == len(layers) == 2 * 7
    assert {weight.quant_type for weight in weights} == {"nf4"}
    assert all(w.quant_state is not None and w.quant_state.nested for w in weights)  # double
    trainable = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert len(trainable) == 2 * len(layers)
    assert all("lora_" in name for name in trainable)


def test_loss_falls_and_the_adapter_is_whole(trained: dict[str, Any], trained_in: Path):
    adapter = trained_in / "adapter"
    assert trained["train_loss_last"] < 0.7 * trained["train_loss_first"]
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    assert trained["adapter_sha256"] == hashlib.sha256(weights).hexdigest()
    assert json.loads((adapter / "meta.json").read_text()) == trained
    assert not list(trained_in.glob("checkpoint-*"))


def test_mlflow_has_what_is_needed_to_repeat_the_run(
    work: Path, tracking: Tracking, trained: dict[str, Any], tmp_path: Path
):
    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(trained["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    pairs, loss = f"{trained['rows']} pairs", f"validation loss {trained['validation_loss']:.3f}"
    assert run.info.run_name == f"tiny · {pairs} · {loss}"
    assert run.data.params["lora_r"] == str(CONFIG.lora_r)
    assert run.data.params["base_identity"] == trained["base_identity"]
    assert run.data.params["dataset_sha256"] == trained["dataset_sha256"]
    assert run.data.tags["dagster_run_id"] == "run-1"
    for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_mb"):
        assert len(client.get_metric_history(run.info.run_id, name)) > 1, name
    assert len(client.get_metric_history(run.info.run_id, "eval_loss")) == 4
    assert run.inputs is not None
    [dataset] = run.inputs.dataset_inputs
    assert trained["dataset_sha256"].startswith(dataset.dataset.digest)
    files = {f.path for f in client.list_artifacts(run.info.run_id, "adapter")}
    assert {"adapter/adapter_model.safetensors", "adapter/meta.json"} <= files
    recipe = client.download_artifacts(run.info.run_id, "recipe.yaml", str(tmp_path))
    assert QLoRAConfig.from_yaml(Path(recipe)) == CONFIG
    around = client.download_artifacts(run.info.run_id, "environment.json", str(tmp_path))
    known = json.loads(Path(around).read_text())
    assert known["packages"]["torch"] == torch.__version__
    assert known["command"]


def test_an_adapter_is_one_version_which_can_be_the_champion(
    tracking: Tracking, trained: dict[str, Any], work: Path
):
    client, model = MlflowClient(tracking.tracking_uri), tracking.registered_model
    run_id, version = trained["mlflow_run_id"], trained["model_version"]
    assert client.get_model_version(model, version).run_id == run_id
    adapter = Path(trained["adapter_dir"])
    assert register_adapter(tracking, run_id, adapter, trained["adapter_sha256"]) == version
    set_alias(tracking.tracking_uri, model, version)
    assert str(client.get_model_version_by_alias(model, "champion").version) == version
    figures, files = {"gold_agreement": 0.9}, [adapter / "meta.json"]
    log_evaluation(tracking.tracking_uri, run_id, figures, files, decision="approved")
    run = client.get_run(run_id)
    assert run.data.metrics["gold_agreement"] == 0.9
    assert run.info.run_name == f"approved 90.0% · tiny · {trained['rows']} pairs"


def test_the_same_run_is_not_trained_twice(
    work: Path, tracking: Tracking, trained: dict[str, Any], trained_in: Path
):
    lines: list[str] = []
    longer = CONFIG.model_copy(update={"max_minutes": 9.0, "preference": "auto"})
    job = sft.sft_job(longer, work / "set", work / "base", trained_in, tracking, lines.append)
    assert train_adapter(job) == trained
    assert "reused" in lines[0]


def test_the_same_recipe_set_and_seed_give_the_same_adapter(job: Make, trained: dict[str, Any]):
    """On one machine with the same threads. Elsewhere sums round differently."""
    again = train_adapter(job())
    assert again["adapter_sha256"] == trained["adapter_sha256"]
    assert again["validation_loss"] == trained["validation_loss"]


def test_the_best_checkpoint_is_kept_not_the_last(work: Path, tracking: Tracking, tmp_path: Path):
    """The validation answers are others than the training ones: the more it learns, the worse."""
    wrong = colour_rows(65, 16)
    right = [{**row, "completion": wrong[i - 1]["completion"]} for i, row in enumerate(wrong)]
    folder = write_set(tmp_path / "set", colour_rows(0, 64), right)
    job = sft.sft_job(CONFIG, folder, work / "base", tmp_path / "out", tracking, silent)
    kept: dict[int, dict[str, torch.Tensor]] = {}

    class Keep(progress.Progress):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_save(args, state, control, **kwargs)
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            kept[state.global_step] = load_file(path / "adapter_model.safetensors")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("loop_pipeline.training.qlora.trainer.Progress", Keep)
        meta = train_adapter(replace(job, register=False))
    assert meta["best_step"] < meta["steps"] == max(kept)
    saved = load_file(Path(meta["adapter_dir"]) / "adapter_model.safetensors")
    best = kept[meta["best_step"]]
    assert all(torch.equal(saved[name].float(), best[name].float()) for name in best)


def test_the_budget_ends_a_run_with_a_whole_adapter(job: Make):
    lines: list[str] = []
    made = job(num_train_epochs=400.0, max_usd=0.001, usd_per_hour=3.0, max_minutes=30.0)
    meta = train_adapter(replace(made, log=lines.append))
    assert meta["ended_by"] == "money"
    assert f"by max_usd: the adapter at step {meta['steps']} of 3200" in meta["training_cut_short"]
    assert meta["steps"] < 3200
    assert meta["validation_loss"] is not None
    assert meta["seconds"] < 30
    assert any(f"0.001 USD are over at step {meta['steps']}/3200" in line for line in lines)


def test_it_ends_when_the_validation_loss_has_stopped_falling(
    work: Path, tracking: Tracking, tmp_path: Path
):
    """The validation answers are others than the training ones: the more it learns, the worse."""
    wrong = colour_rows(65, 16)
    right = [{**row, "completion": wrong[i - 1]["completion"]} for i, row in enumerate(wrong)]
    folder = write_set(tmp_path / "set", colour_rows(0, 64), right)
    config = CONFIG.model_copy(update={"num_train_epochs": 40.0, "patience": 2})
    job = sft.sft_job(config, folder, work / "base", tmp_path / "out", tracking, silent)
    meta = train_adapter(replace(job, register=False))
    assert (meta["ended_by"], meta["training_cut_short"]) == ("validation loss", "")
    assert meta["steps"] == meta["best_step"] + 2 * CONFIG.save_steps < meta["steps_planned"]


def test_a_base_that_was_cut_short_is_said_of_every_adapter_on_it(
    work: Path, tracking: Tracking, tmp_path: Path
):
    base = tmp_path / "base"
    shutil.copytree(work / "base", base)
    meta = json.loads((base / "meta.json").read_text())
    short = {"ended_by": "clock", "steps": 78, "steps_planned": 672}
    (base / "meta.json").write_text(json.dumps(meta | short))
    config = CONFIG.model_copy(update={"num_train_epochs": 1.0})
    job = sft.sft_job(config, work / "set", base, tmp_path / "out", tracking, silent)
    made = train_adapter(job)
    assert made["ended_by"] == "steps"
    assert "by max_minutes: the base model at step 78 of 672, before" in made["training_cut_short"]
    assert f"remove {base}" in made["training_cut_short"]
    run = MlflowClient(tracking.tracking_uri).get_run(made["mlflow_run_id"])
    assert run.data.tags["ended_by"] == "steps"
    assert run.data.tags["training_cut_short"] == made["training_cut_short"]


def test_out_of_memory_is_tried_once_more_with_half_the_rows(
    job: Make, monkeypatch: pytest.MonkeyPatch
):
    lines: list[str] = []
    step = sft.SFTTrainer.training_step

    def short_of_memory(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        if len(inputs["input_ids"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(sft.SFTTrainer, "training_step", short_of_memory)
    meta = train_adapter(replace(job(num_train_epochs=1), log=lines.append))
    assert "sft: out of memory; once more with 4 rows at a time and 2 accumulation steps" in lines
    assert (meta["micro_batch"], meta["steps"]) == (4, 8)
    with pytest.raises(torch.OutOfMemoryError):
        train_adapter(job(num_train_epochs=1, per_device_train_batch_size=16))


def test_a_packed_row_sees_itself_alone(work: Path, tmp_path: Path):
    """Several rows in one sequence have the loss they have apart; a step has as many rows."""
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    losses = {}
    for packing in ("none", "bfd"):
        config = CONFIG.model_copy(update={"packing": packing, "max_length": 64})
        tokens = tokenise(config, work / "set", tokenizer)
        trainer = build_trainer(config, tokens, str(work / "base"), tmp_path / packing)
        total = count = 0.0
        assert trainer.model is not None
        trainer.model.eval()
        with torch.no_grad():
            for batch in trainer.get_train_dataloader():
                n = int((batch["labels"] != -100).sum())
                total += float(trainer.compute_loss(trainer.model, dict(batch))) * n
                count += n
        losses[packing] = total / count
    assert losses["bfd"] == pytest.approx(losses["none"], rel=1e-3)
    at_once, accumulation = packed_batch(config, tokens)
    rows_a_step = at_once * accumulation * len(tokens.train) / len(trainer.train_dataset)  # pyright: ignore
    assert rows_a_step == pytest.approx(8, rel=0.5)


def test_one_row_in_a_hundred_is_cut_and_counted(work: Path, tmp_path: Path):
    rows = colour_rows(0, 200)
    rows[7]["prompt"][1]["content"] = "sea " * 200
    folder = write_set(tmp_path, rows, [])
    tokenizer = AutoTokenizer.from_pretrained(work / "base")
    config = CONFIG.model_copy(update={"p99_max_length": True})
    tokens = tokenise(config, folder, tokenizer)
    lengths = [len(p) + len(a) for p, a in tokens.train]
    assert tokens.truncated == 1
    assert tokens.max_length < 64 <= config.max_length
    assert max(lengths) == tokens.max_length
    assert np.mean(lengths) < tokens.max_length


def test_without_validation_rows_the_last_step_is_kept(
    work: Path, tracking: Tracking, tmp_path: Path
):
    folder = write_set(tmp_path / "set", colour_rows(0, 64), [])
    config = CONFIG.model_copy(update={"num_train_epochs": 1.0})
    job = sft.sft_job(config, folder, work / "base", tmp_path / "out", tracking, silent)
    meta = train_adapter(replace(job, register=False))
    assert (meta["validation_loss"], meta["best_step"]) == (None, meta["steps"])
