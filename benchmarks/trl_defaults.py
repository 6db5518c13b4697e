"""The rival of the training benchmarks: TRL's own trainer with TRL's own defaults.

Nothing of ours is in it but the 4-bit base, the rows, the adapter's shape and the schedule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.qlora.load_model import load_quantised
from loop_pipeline.training.qlora.sft import Tokens, make_dataset, make_lora


def trl_trainer(config: QLoRAConfig, tokens: Tokens, base: str, out: Path, **more: Any) -> Trainer:
    """What ``SFTConfig`` does if nothing is said: random order, padding, recomputation, AdamW.

    Args:
        config: Rows a step, rate, schedule and adapter are taken from it.
        tokens: The rows.
        base: Folder of the base.
        out: The trainer's folder.
        **more: Further arguments of ``SFTConfig``.
    """
    arguments = SFTConfig(
        output_dir=str(out),
        max_length=tokens.max_length,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,
        num_train_epochs=config.num_train_epochs,
        seed=config.seed,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
        **more,
    )
    return SFTTrainer(
        model=load_quantised(base),  # pyright: ignore[reportArgumentType]
        args=arguments,
        train_dataset=make_dataset(tokens.train).remove_columns("length"),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=make_lora(config),
    )
