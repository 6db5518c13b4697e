"""Train one adapter: ``python -m loop_pipeline.training.qlora`` (through Pipes).

A 4-bit (NF4, double quantisation) base, LoRA on every linear layer, TRL's SFT trainer, loss on
the answers only. A run that was killed goes on from its last complete checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import mlflow
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, prepare_model_for_kbit_training
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from loop_pipeline.store.tracking import Tracking, log_inputs, register_adapter, start_run
from loop_pipeline.training.base import (
    SECONDS_BETWEEN_LINES,
    Log,
    Row,
    encode,
    read_rows,
    resolve_base,
    write_mark,
)
from loop_pipeline.training.config import QLoRAConfig

COMPLETE = "complete.json"


class _Progress(TrainerCallback):
    """Marks checkpoints as complete, sends the loss curve to MLflow, speaks every ten seconds."""

    def __init__(self, config: QLoRAConfig, log: Log) -> None:
        self.config, self.log = config, log
        self.started = self.said = time.monotonic()
        self.first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; ``global_step`` is above zero when the run was resumed."""
        self.started = self.said = time.monotonic()
        self.first_step = state.global_step

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the mark that a killed save does not get: every file and its size."""
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        write_mark(folder / COMPLETE, sizes)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """One point of every curve a logging step."""
        numbers = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        mlflow.log_metrics(numbers, step=state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say where the run stands, and end it when its time is over."""
        now = time.monotonic()
        elapsed = now - self.started
        if elapsed > 60 * self.config.max_minutes:
            self.log(f"adapter: {self.config.max_minutes} minutes are over at {state.global_step}")
            control.should_training_stop = True
        if now - self.said >= SECONDS_BETWEEN_LINES:
            self.said = now
            losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
            left = (state.max_steps - state.global_step) / (state.global_step - self.first_step)
            self.log(
                f"adapter: step {state.global_step}/{state.max_steps}, "
                f"loss {losses[-1] if losses else float('nan'):.3f}, {left * elapsed:.0f} s to go"
            )


def load_quantised(base: str) -> torch.nn.Module:
    """Load a base in NF4 with double quantisation, on the GPU if there is one."""
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=quantised, dtype=dtype, device_map={"": 0 if gpu else "cpu"}
    )
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=gpu)


def build_trainer(
    config: QLoRAConfig,
    rows: list[Row],
    base: str,
    output_dir: Path,
    callback: TrainerCallback | None = None,
) -> tuple[SFTTrainer, int]:
    """Put base, adapter, rows and recipe together.

    Args:
        config: The recipe.
        rows: The training split.
        base: Hub id or folder of the base.
        output_dir: Where checkpoints go.
        callback: Told about steps, logs and saves.

    Returns:
        The trainer, and how many rows were cut to ``max_length``.
    """
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(base)
    encoded, cut = encode(tokenizer, rows, config.max_length)
    dataset = Dataset.from_dict(
        {
            "input_ids": [prompt + answer for prompt, answer in encoded],
            "completion_mask": [[0] * len(p) + [1] * len(a) for p, a in encoded],
            "length": [len(prompt) + len(answer) for prompt, answer in encoded],
        }
    )
    gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(output_dir),
        max_length=config.max_length,
        completion_only_loss=True,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        optim="paged_adamw_8bit",
        num_train_epochs=config.num_train_epochs,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        train_sampling_strategy="group_by_length",
        logging_steps=config.logging_steps,
        logging_first_step=True,
        save_steps=config.save_steps,
        save_total_limit=2,
        seed=config.seed,
        bf16=gpu,
        use_cpu=not gpu,
        gradient_checkpointing=gpu,
        disable_tqdm=True,
        report_to=[],
    )
    adapter = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    trainer = SFTTrainer(
        model=load_quantised(base),  # pyright: ignore[reportArgumentType]
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[callback] if callback else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, cut


def last_complete_checkpoint(output_dir: Path, log: Log) -> str | None:
    """Find the newest checkpoint whose every file is there; remove half-written ones."""
    found = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for folder in reversed(found):
        mark = folder / COMPLETE
        sizes: dict[str, int] = json.loads(
            mark.read_text(encoding="utf-8") if mark.exists() else "{}"
        )
        files = {path.name: path.stat().st_size for path in folder.iterdir()}
        if sizes and sizes.items() <= files.items():
            log(f"resuming from {folder.name}")
            return str(folder)
        log(f"{folder.name} was not written to its end: removed")
        shutil.rmtree(folder)
    return None


def _fingerprint(config: QLoRAConfig, dataset_sha256: str, base: str) -> str:
    """Equal for runs that would train the same adapter; time limits do not count."""
    meta = Path(base) / "meta.json"
    recipe = config.model_dump(exclude={"max_minutes", "logging_steps", "save_steps"})
    made = meta.read_text(encoding="utf-8") if meta.exists() else base
    return hashlib.sha256(json.dumps([recipe, dataset_sha256, made]).encode()).hexdigest()


def _prepare(output_dir: Path, fingerprint: str, log: Log) -> dict[str, Any] | None:
    """Return a finished adapter's meta; forget what another recipe or dataset left here."""
    output_dir.mkdir(parents=True, exist_ok=True)
    mark = output_dir / "fingerprint"
    if mark.exists() and mark.read_text(encoding="utf-8") != fingerprint:
        log(f"{output_dir} holds a run of another dataset, base or recipe: starting over")
        shutil.rmtree(output_dir)
        output_dir.mkdir()
    mark.write_text(fingerprint, encoding="utf-8")
    meta = output_dir / "adapter" / "meta.json"
    if not meta.exists():
        return None
    log(f"adapter {output_dir} is complete: reused")
    return json.loads(meta.read_text(encoding="utf-8"))


def train_adapter(
    config: QLoRAConfig,
    dataset_dir: Path,
    base_dir: Path,
    output_dir: Path,
    tracking: Tracking,
    log: Log,
) -> dict[str, Any]:
    """Train, record and register one adapter.

    Args:
        config: The recipe.
        dataset_dir: ``train.jsonl`` (prompt/completion rows) and ``dataset.json`` (its sha256).
        base_dir: The base made for ``tiny``; unused when ``config.base_model`` names one.
        output_dir: Checkpoints, and at the end ``adapter/`` with its ``meta.json`` written last.
        tracking: The MLflow store and the run's tags.
        log: Takes a progress line about every ten seconds.

    Returns:
        What ``meta.json`` says of the adapter.

    Raises:
        ValueError: if there is nothing to train on, or the base cannot be used.
    """
    rows = read_rows(dataset_dir)
    facts = json.loads((dataset_dir / "dataset.json").read_text(encoding="utf-8"))
    base = resolve_base(config, base_dir)
    done = _prepare(output_dir, _fingerprint(config, facts["sha256"], base), log)
    if done:
        return done
    progress = _Progress(config, log)
    resume = last_complete_checkpoint(output_dir, log)
    with start_run(tracking, output_dir / "mlflow_run_id") as run_id:
        if resume is None:
            params = {**config.model_dump(), "base": base, "dataset_sha256": facts["sha256"]}
            log_inputs(params, dataset_dir / "train.jsonl", facts["sha256"])
        trainer, cut = build_trainer(config, rows, base, output_dir, progress)
        trainer.train(resume_from_checkpoint=resume)
        adapter = output_dir / "adapter"
        meta = {
            "base": base,
            "dataset_sha256": facts["sha256"],
            "config": config.model_dump(),
            "adapter_dir": str(adapter.absolute()),
            "adapter_sha256": _save_adapter(trainer, adapter),
            "mlflow_run_id": run_id,
            "rows": len(rows),
            "truncated_rows": cut,
            **_figures(trainer, progress),
            "loss_curve": [
                [entry["step"], entry["loss"]]
                for entry in trainer.state.log_history
                if "loss" in entry
            ],
        }
        meta["model_version"] = register_adapter(tracking, run_id, adapter, meta["adapter_sha256"])
        write_mark(adapter / "meta.json", meta)
        mlflow.log_artifact(str(adapter / "meta.json"), "adapter")
    for folder in output_dir.glob("checkpoint-*"):  # optimizer state: of use to a resume only
        shutil.rmtree(folder)
    return meta


def _save_adapter(trainer: SFTTrainer, folder: Path) -> str:
    """Save the adapter and return the sha256 of its weights."""
    model = trainer.model
    if not isinstance(model, PeftModel):
        raise TypeError(f"expected a model with an adapter, got {type(model).__name__}")
    model.save_pretrained(str(folder))
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()


def _figures(trainer: SFTTrainer, progress: _Progress) -> dict[str, float]:
    """Loss at both ends, steps, and the speed of this process (a resumed one ran less)."""
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    tokens = [entry["num_tokens"] for entry in history if "num_tokens" in entry]
    seconds = time.monotonic() - progress.started
    figures = {
        "train_loss_first": float(losses[0]),
        "train_loss_last": float(losses[-1]),
        "steps": trainer.state.global_step,
        "resumed_at_step": progress.first_step,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens[-1] / seconds) if tokens else 0,
    }
    mlflow.log_metrics({k: v for k, v in figures.items() if k != "resumed_at_step"})
    return figures


def main() -> None:
    """Train and report the adapter through Pipes."""
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        extras = pipes.extras
        meta = train_adapter(
            QLoRAConfig.model_validate(extras["config"]),
            Path(extras["dataset_dir"]),
            Path(extras["base_dir"]),
            Path(extras["output_dir"]),
            Tracking.model_validate(extras["mlflow"]),
            pipes.log.info,
        )
        recipe = {"raw_value": meta["config"], "type": "json"}
        pipes.report_asset_materialization(
            metadata={**meta, "config": recipe}, data_version=meta["adapter_sha256"]
        )


if __name__ == "__main__":
    main()
