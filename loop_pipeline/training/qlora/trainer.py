"""What both stages share: arguments, and a run that ends well.

Not here: the data of a stage (``sft.py``, ``preference.py``).

A run goes on from its last complete checkpoint, gives out-of-memory one more try with half the
micro-batch, and says in one line that the disk is full.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback

from loop_pipeline.hashing import file_sha256
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.mlflow_log.run_record import RunRecord
from loop_pipeline.training.qlora.adapter_folder import WEIGHTS
from loop_pipeline.training.qlora.distributed import is_main, wait_for_all
from loop_pipeline.training.qlora.load_model import sharded
from loop_pipeline.training.qlora.progress import Progress, peak_memory_mb
from loop_pipeline.training.qlora.resume import explain_failed_save, last_complete_checkpoint
from loop_pipeline.training.qlora.tokens import Log

Build = Callable[[QLoRAConfig, TrainerCallback], Trainer]


def arguments(config: QLoRAConfig, run_dir: Path) -> dict[str, Any]:
    """Arguments of every trainer. Checkpoints: the best, the newest and the one before it.

    The one before: the newest is not yet marked as complete when an older one is removed.
    """
    gpu = torch.cuda.is_available()
    return {
        "output_dir": str(run_dir),
        "max_length": config.max_length,
        "lr_scheduler_type": "cosine",
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        # The 8-bit optimizer cannot be sharded.
        "optim": "adamw_torch_fused" if sharded() else "paged_adamw_8bit",
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "per_device_eval_batch_size": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "logging_steps": config.logging_steps,
        "logging_first_step": True,
        "save_steps": config.save_steps,
        "save_total_limit": 3,
        "seed": config.seed,
        "bf16": gpu,
        "use_cpu": not gpu,
        "gradient_checkpointing": config.gradient_checkpointing,
        "disable_tqdm": True,
        "report_to": [],
    }


def fit(
    name: str,
    build: Build,
    config: QLoRAConfig,
    run_dir: Path,
    record: RunRecord | None,
    log: Log,
) -> tuple[Trainer, dict[str, Any]]:
    """Train to the end, from the last complete checkpoint if there is one.

    The end is that the steps are done or that the validation loss has stopped falling; the clock
    and the money are a safety.

    Args:
        name: Of the stage, for the log.
        build: Makes the trainer of a recipe.
        config: The recipe.
        run_dir: Where checkpoints go.
        record: Takes the curves; None in processes other than the main one.
        log: Takes a progress line about every ten seconds.

    Returns:
        The trainer with the best weights loaded, and figures of the run.

    Raises:
        DiskFull: a checkpoint could not be written.
        torch.OutOfMemoryError: also half the micro-batch does not fit.
    """
    checkpoint, spent = last_complete_checkpoint(run_dir, log) if is_main() else (None, 0.0)
    wait_for_all()
    if not is_main():
        checkpoint, spent = last_complete_checkpoint(run_dir, log)
    progress = Progress(name, config, record, log, spent)
    trainer = _watched(build(config, progress), config)
    if not _train(trainer, checkpoint, run_dir, may_retry=_can_halve(name, config)):
        del trainer
        gc.collect()
        torch.cuda.empty_cache()
        config = _halved(config)
        log(
            f"{name}: out of memory; once more with {config.per_device_train_batch_size} rows at a "
            f"time and {config.gradient_accumulation_steps} accumulation steps"
        )
        checkpoint, _ = last_complete_checkpoint(run_dir, log)
        progress = Progress(name, config, record, log, spent + progress.elapsed)
        trainer = _watched(build(config, progress), config)
        _train(trainer, checkpoint, run_dir, may_retry=False)
    return trainer, _figures(trainer, progress, config)


def _watched(trainer: Trainer, config: QLoRAConfig) -> Trainer:
    trainer.remove_callback(PrinterCallback)
    if trainer.args.load_best_model_at_end:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    return trainer


def _train(trainer: Trainer, checkpoint: str | None, run_dir: Path, *, may_retry: bool) -> bool:
    """Whether it came to its end; False: out of memory."""
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError:
        if may_retry:
            return False
        raise
    except Exception as error:
        if full := explain_failed_save(run_dir, error):
            raise full from error
        raise
    return True


def _can_halve(name: str, config: QLoRAConfig) -> bool:
    # The other processes of a distributed step wait for ever for the one that has failed.
    alone = not torch.distributed.is_initialized()
    # KTO compares the rows of a micro-batch.
    least = 2 if name == "kto" else 1
    return alone and config.per_device_train_batch_size // 2 >= least


def _halved(config: QLoRAConfig) -> QLoRAConfig:
    """Half the micro-batch, the same effective one: rows of a step do not change."""
    rows = config.per_device_train_batch_size // 2
    whole = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return config.model_copy(
        update={
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": max(1, round(whole / rows)),
        }
    )


def _figures(trainer: Trainer, progress: Progress, config: QLoRAConfig) -> dict[str, Any]:
    """Losses, steps, and the speed of this process (a resumed one ran less)."""
    state = trainer.state
    losses = [[entry["step"], entry["loss"]] for entry in state.log_history if "loss" in entry]
    tokens = [entry["num_tokens"] for entry in state.log_history if "num_tokens" in entry]
    elapsed = progress.elapsed
    return {
        "train_loss_first": float(losses[0][1]),
        "train_loss_last": float(losses[-1][1]),
        "validation_loss": state.best_metric,
        "steps": state.global_step,
        "steps_planned": state.max_steps,
        "ended_by": progress.ended_by
        or ("steps" if state.global_step >= state.max_steps else "validation loss"),
        "best_step": state.best_global_step or state.global_step,
        "resumed_at_step": progress.first_step,
        "micro_batch": config.per_device_train_batch_size,
        "seconds": round(progress.spent + elapsed, 1),
        "tokens_per_second": round(tokens[-1] / elapsed) if tokens else 0,
        "peak_memory_mb": round(peak_memory_mb()),
        "loss_curve": losses,
    }


def save_adapter(trainer: Trainer, folder: Path) -> str:
    """Save the adapter and return the sha256 of its weights; every process has to call it.

    Raises:
        FloatingPointError: the training diverged.
    """
    model = trainer.model
    if sharded():
        trainer.save_model(str(folder))
    elif is_main():
        if not isinstance(model, PeftModel):
            raise TypeError(f"expected a model with an adapter, got {type(model).__name__}")
        learned = [p for p in model.parameters() if p.requires_grad]
        if not all(bool(torch.isfinite(p).all()) for p in learned):
            rate = f"{trainer.args.learning_rate:g}"
            raise FloatingPointError(f"the training diverged: lower learning_rate (it was {rate})")
        # A preference stage also holds the frozen adapter it started from.
        model.save_pretrained(str(folder), selected_adapters=["default"])
    wait_for_all()
    return file_sha256(folder / WEIGHTS)
