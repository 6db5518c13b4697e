"""Stage A: fine-tuning on answers only, packed where attention keeps rows apart.

Not here: preferences (``preference.py``).
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, PreTrainedTokenizerFast, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.chat_rows import encode_usable, renderable
from loop_pipeline.training.endings import ending
from loop_pipeline.training.qlora.adapter_folder import base_identity
from loop_pipeline.training.qlora.load_model import flash_attention, load_quantised, resolve_base
from loop_pipeline.training.qlora.run import Job, run_stage
from loop_pipeline.training.qlora.tokens import (
    Encoded,
    Log,
    cut,
    encode,
    p99_length,
    read_rows,
    read_validation,
)
from loop_pipeline.training.qlora.trainer import Build, arguments


@dataclass(frozen=True)
class Tokens:
    """The rows of a run as tokens, none longer than ``max_length``."""

    train: list[Encoded]
    validation: list[Encoded]
    max_length: int
    truncated: int


def tokenise(
    config: QLoRAConfig, dataset_dir: Path, tokenizer: PreTrainedTokenizerFast, log: Log = print
) -> Tokens:
    """Read the training rows and a fixed sample of the validation rows.

    Raises:
        ValueError: if there is nothing to train on, or a line is no row.
    """
    sample = renderable(tokenizer, read_validation(dataset_dir))[0]
    length = config.max_length
    train, truncated = encode_usable(tokenizer, read_rows(dataset_dir), length, log)
    if config.p99_max_length:
        length = min(length, p99_length(train))
        train, shorter = cut(train, length)
        truncated = max(truncated, shorter)
    validation = encode(tokenizer, sample, length)[0]
    return Tokens(train, validation, length, truncated)


def make_dataset(rows: list[Encoded]) -> Dataset:
    """Rows as a trainer takes them: only the answers carry loss."""
    return Dataset.from_dict(
        {
            "input_ids": [prompt + answer for prompt, answer in rows],
            "labels": [[-100] * len(prompt) + answer for prompt, answer in rows],
            "length": [len(prompt) + len(answer) for prompt, answer in rows],
        }
    )


def make_lora(config: QLoRAConfig) -> LoraConfig:
    """An adapter on every linear layer: that matters more than its rank (LoRA without regret)."""
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def packs(config: QLoRAConfig) -> bool:
    """Whether several rows share a sequence."""
    return config.packing == "bfd" or (config.packing == "auto" and flash_attention())


def packed_batch(config: QLoRAConfig, tokens: Tokens) -> tuple[int, int]:
    """Sequences at a time and accumulation steps, so that a step has as many rows as unpacked.

    The learning rate belongs to the rows of a step: packed without this it would see several times
    as many.
    """
    per_row = sum(len(p) + len(a) for p, a in tokens.train) / len(tokens.train)
    share = per_row / tokens.max_length
    at_once = max(1, round(config.per_device_train_batch_size * share))
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return at_once, max(1, round(rows * share / at_once))


def build_trainer(
    config: QLoRAConfig,
    tokens: Tokens,
    base: str,
    run_dir: Path,
    callback: TrainerCallback | None = None,
) -> SFTTrainer:
    """Put base, adapter, rows and recipe together.

    Args:
        config: The recipe.
        tokens: The rows.
        base: Hub id or folder of the base.
        run_dir: Where checkpoints go.
        callback: Told about steps, logs and saves.
    """
    packed = packs(config)
    # The sampler has a seed of its own: the recipe's decides what it gets.
    shuffled = random.Random(config.seed).sample(tokens.train, len(tokens.train))
    options: dict[str, Any] = arguments(config, run_dir)
    options |= {"max_length": tokens.max_length}
    if packed:
        at_once, accumulation = packed_batch(config, tokens)
        options["per_device_train_batch_size"] = at_once
        options["gradient_accumulation_steps"] = accumulation
    if tokens.validation:
        options |= {
            "eval_strategy": "steps",
            "eval_steps": config.save_steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "prediction_loss_only": True,
        }
    return SFTTrainer(
        model=load_quantised(base),  # pyright: ignore[reportArgumentType]
        args=SFTConfig(
            **options,
            learning_rate=config.learning_rate,
            num_train_epochs=config.num_train_epochs,
            # A step's rows are drawn at random, so that its gradient is unbiased; only then are
            # they sorted into micro-batches. Steps of like rows learned long answers worse.
            train_sampling_strategy="random" if packed else "batch_rebalance",
            packing=packed,
            eval_packing=False,
            # The labels are made already. Packing is done there.
            dataset_kwargs={"skip_prepare_dataset": not packed},
        ),
        train_dataset=make_dataset(shuffled),
        eval_dataset=make_dataset(tokens.validation) if tokens.validation else None,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=make_lora(config),
        callbacks=[callback] if callback else None,
    )


def sft_job(
    config: QLoRAConfig,
    dataset_dir: Path,
    base_dir: Path,
    output_dir: Path,
    tracking: Tracking,
    log: Log,
) -> Job:
    """One supervised adapter.

    Args:
        config: The recipe.
        dataset_dir: ``train.jsonl`` and ``validation.jsonl`` (prompt/completion rows; the second
            may be empty) and ``dataset.json`` (their sha256).
        base_dir: The base made for ``tiny``; unused when ``config.base_model`` names one.
        output_dir: Checkpoints, and at the end ``adapter/`` with its ``meta.json`` written last.
        tracking: The MLflow store and the run's tags.
        log: Takes a progress line about every ten seconds.

    Raises:
        ValueError: the base cannot be used.
    """
    base = resolve_base(config, base_dir)
    made = json.loads((base_dir / "meta.json").read_text("utf-8")) if not config.base_model else {}
    return Job(
        stage="sft",
        config=config,
        base=base,
        base_identity=base_identity(base),
        train_file=dataset_dir / "train.jsonl",
        data_sha256=json.loads((dataset_dir / "dataset.json").read_text("utf-8"))["sha256"],
        run_dir=output_dir,
        tracking=tracking,
        log=log,
        before=[ending("base model", made, str(base_dir))] if made else [],
    )


def train_adapter(job: Job) -> dict[str, Any]:
    """Train, record and register one adapter by supervised fine-tuning.

    Returns:
        What ``meta.json`` says of the adapter.

    Raises:
        ValueError: there is nothing to train on, or a line is no row.
        DiskFull: a checkpoint could not be written.
    """

    def load() -> tuple[Build, dict[str, Any]]:
        tokenizer = AutoTokenizer.from_pretrained(job.base)
        tokens = tokenise(job.config, job.train_file.parent, tokenizer, job.log)

        def build(recipe: QLoRAConfig, callback: TrainerCallback) -> SFTTrainer:
            return build_trainer(recipe, tokens, job.base, job.run_dir, callback)

        return build, {
            "rows": len(tokens.train),
            "truncated_rows": tokens.truncated,
            "tokens_max_length": tokens.max_length,
            "packed": packs(job.config),
        }

    return run_stage(job, load)
