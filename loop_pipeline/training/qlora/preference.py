"""Stage B, optional: what people preferred and what they refused, from stage A's adapter on.

Not here: which of the two adapters stands (``evaluation/preference_gate.py``).

DPO where an edit makes a pair, KTO where there are only refusals. The result is a candidate beside
its parent; `keep` decides between them.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset
from peft import PeftModel
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Trainer, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from loop_pipeline.hashing import file_sha256
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.chat_rows import renderable
from loop_pipeline.training.qlora.adapter_folder import checked_meta, read_meta
from loop_pipeline.training.qlora.load_model import load_quantised
from loop_pipeline.training.qlora.run import Job, run_stage
from loop_pipeline.training.qlora.tokens import Row, encode, read_lines, template_arguments
from loop_pipeline.training.qlora.trainer import arguments

# Fewer pairs, or fewer refusals, teach nothing that lasts.
LEAST = 300
BETA = 0.1
# Of the supervised rate: 5e-6 where that is 1e-4. Higher ones "can significantly degrade" (SimPO).
RATE = 1 / 20
# Weight of all desirable rows to that of all undesirable ones, within KTO's 1:1 to 4:3 (eq. 8).
BALANCE = 7 / 6

Kind = Literal["dpo", "kto"]


def train_preference(parent: Job) -> dict[str, Any] | None:
    """Train a second adapter from a supervised one, if there is enough to learn from.

    Args:
        parent: The finished supervised job; ``preferences.jsonl`` (prompt, chosen, rejected) and
            ``feedback.jsonl`` (prompt, completion, label) lie beside its training rows.

    Returns:
        What ``meta.json`` of the second adapter says; None, and a line in the log, if it is left
        out.

    Raises:
        ValueError: a line is no row.
    """
    adapter = parent.run_dir / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(parent.base)
    kind, rows, facts = choose_rows(parent.train_file.parent, tokenizer, parent.config.max_length)
    if kind is None:
        parent.log(
            f"no preference stage: {facts['pairs']} pairs and {facts['refusals']} refusals "
            f"are usable, {LEAST} of one kind are the least"
        )
        return None
    file = parent.train_file.parent / ("preferences.jsonl" if kind == "dpo" else "feedback.jsonl")
    job = replace(
        parent,
        stage=kind,
        config=preference_recipe(read_meta(adapter)["config"]),
        train_file=file,
        data_sha256=file_sha256(file),
        run_dir=parent.run_dir / "preference",
        nested_in=parent.run_dir,
        parent_sha256=checked_meta(adapter)["adapter_sha256"],
        before=read_meta(adapter).get("endings", []),
    )

    def build(recipe: QLoRAConfig, callback: TrainerCallback) -> Trainer:
        return build_trainer(kind, recipe, rows, job, adapter, callback)

    return run_stage(job, lambda: (build, {"rows": len(rows), **facts}))


def choose_rows(
    dataset_dir: Path, tokenizer: PreTrainedTokenizerFast, max_length: int
) -> tuple[Kind | None, list[Row], dict[str, int]]:
    """Pairs if there are enough of them, else refusals if there are, else nothing.

    A row that is too long is left out: cut, it would have lost what it was preferred for.

    Args:
        dataset_dir: Of the two files; either may be absent.
        tokenizer: Of the base.
        max_length: Tokens of prompt and answer, at most.

    Returns:
        The stage, its rows, and how many ``pairs``, ``refusals`` and ``too_long`` rows there are.
    """
    pairs = read_lines(
        dataset_dir / "preferences.jsonl", "preference", ("prompt", "chosen", "rejected")
    )
    single = read_lines(
        dataset_dir / "feedback.jsonl", "feedback", ("prompt", "completion"), ("label",)
    )
    found = len(pairs) + len(single)
    pairs = _short(pairs, ("chosen", "rejected"), tokenizer, max_length)
    single = _short(single, ("completion",), tokenizer, max_length)
    refusals = sum(not row["label"] for row in single)
    facts = {
        "pairs": len(pairs),
        "refusals": refusals,
        "too_long": found - len(pairs) - len(single),
    }
    if len(pairs) >= LEAST:
        return "dpo", pairs, facts
    if refusals >= LEAST and refusals < len(single):
        return "kto", single, facts
    return None, [], facts


def _short(
    rows: list[Row], answers: tuple[str, ...], tokenizer: PreTrainedTokenizerFast, limit: int
) -> list[Row]:
    rows, _ = renderable(tokenizer, rows, answers)
    fits = [True] * len(rows)
    for name in answers:
        asked = [{"prompt": row["prompt"], "completion": row[name]} for row in rows]
        encoded = encode(tokenizer, asked, 2**31)[0]
        fits = [ok and len(p) + len(a) <= limit for ok, (p, a) in zip(fits, encoded, strict=True)]
    return [row for row, ok in zip(rows, fits, strict=True) if ok]


def preference_recipe(supervised: dict[str, Any]) -> QLoRAConfig:
    """The supervised recipe with a small rate, one epoch, and as many sequences at a time."""
    config = QLoRAConfig.model_validate(supervised)
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    at_once = max(2, config.per_device_train_batch_size // 2)
    return config.model_copy(
        update={
            "learning_rate": config.learning_rate * RATE,
            "num_train_epochs": 1.0,
            "per_device_train_batch_size": at_once,
            "gradient_accumulation_steps": max(1, round(rows / at_once)),
        }
    )


def kto_weights(desirable: int, undesirable: int) -> tuple[float, float]:
    """Weights of the two kinds of rows, so that weight times number is in KTO's balance.

    The smaller side is raised, the larger keeps 1. Source: Ethayarajh et al. 2024, eq. 8.
    """
    ratio = BALANCE * undesirable / desirable
    return (ratio, 1.0) if ratio > 1 else (1.0, 1 / ratio)


def build_trainer(
    kind: Kind,
    config: QLoRAConfig,
    rows: list[Row],
    job: Job,
    adapter: Path,
    callback: TrainerCallback | None = None,
) -> Trainer:
    """DPO or KTO from an adapter on: a frozen copy of it is the reference.

    Args:
        kind: Of the stage.
        config: The recipe.
        rows: Of the stage.
        job: Its base and folder are used.
        adapter: The supervised one.
        callback: Told about steps, logs and saves.
    """
    tokenizer = AutoTokenizer.from_pretrained(job.base)
    model = PeftModel.from_pretrained(load_quantised(job.base), str(adapter), is_trainable=True)
    # KTO reads its rows in this order, and compares those of a micro-batch with each other.
    shuffled = random.Random(config.seed).sample(rows, len(rows))
    fields = ("prompt", "chosen", "rejected") if kind == "dpo" else ("prompt", "completion")
    columns: dict[str, list[Any]] = {
        name: [_turns(row[name]) for row in shuffled] for name in fields
    }
    if switches := template_arguments(tokenizer):
        columns["chat_template_kwargs"] = [switches] * len(rows)
    options: dict[str, Any] = arguments(config, job.run_dir)
    options |= {"learning_rate": config.learning_rate}
    if kind == "dpo":
        return DPOTrainer(
            model=model,  # pyright: ignore[reportArgumentType]
            args=DPOConfig(**options, beta=BETA, loss_type=["sigmoid", "sft"]),
            train_dataset=Dataset.from_dict(columns),
            processing_class=tokenizer,
            callbacks=[callback] if callback else None,
        )
    labels = [bool(row["label"]) for row in shuffled]
    desirable, undesirable = kto_weights(sum(labels), len(labels) - sum(labels))
    return KTOTrainer(
        model=model,  # pyright: ignore[reportArgumentType]
        args=KTOConfig(
            **options, beta=BETA, desirable_weight=desirable, undesirable_weight=undesirable
        ),
        train_dataset=Dataset.from_dict(columns | {"label": labels}),
        processing_class=tokenizer,
        callbacks=[callback] if callback else None,
    )


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"role": m["role"], "content": m["content"]} for m in messages]
