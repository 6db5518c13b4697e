"""The base model a student starts from.

Dagster runs it through Pipes: ``python -m loop_pipeline.training.base_model``.

The ``tiny`` profile makes its own: a byte-level BPE tokenizer and a small Qwen2 model, trained
from scratch on the run's own training split. Other profiles name a model that exists.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2ForCausalLM

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.base_folder import META, made_before
from loop_pipeline.training.chat_rows import encode_usable, renderable
from loop_pipeline.training.dataset.frozen_check import check_frozen
from loop_pipeline.training.endings import cut_short, ending
from loop_pipeline.training.pretraining import fit, new_model
from loop_pipeline.training.qlora.adapter_folder import write_mark
from loop_pipeline.training.qlora.load_model import resolve_base
from loop_pipeline.training.qlora.tokens import Log, encode, read_rows, read_validation
from loop_pipeline.training.tiny_tokenizer import train_tokenizer


def pretrain_tiny(
    dataset_dir: Path, base_dir: Path, config: QLoRAConfig, log: Log
) -> dict[str, Any]:
    """Make the tiny base from the training split, once.

    It ends when the validation loss has stopped falling or the steps are done, and the weights with
    the lowest validation loss are kept. The clock is a safety; ``ended_by`` says what it was.

    Args:
        dataset_dir: The frozen set; without validation rows the steps decide.
        base_dir: Folder of the base; its ``meta.json``, written last, marks it as complete.
        config: the recipe.
        log: Takes a progress line about every ten seconds.

    Returns:
        What ``meta.json`` says: parameters, rows, steps, tokens seen, losses, what ended it.
    """
    if known := made_before(base_dir):
        log(f"base {base_dir} is complete: reused")
        return known
    started = time.monotonic()
    rows, validation = read_rows(dataset_dir), read_validation(dataset_dir)
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(rows, config.max_length)
    encoded, _ = encode_usable(tokenizer, rows, config.max_length, log)
    seen = renderable(tokenizer, validation)[0]
    held_out = encode(tokenizer, seen, config.max_length)[0]
    model = new_model(len(tokenizer), tokenizer.model_max_length)
    meta = fit(model, encoded, held_out, config, log)
    snap_to_nf4(model)
    model.save_pretrained(base_dir)
    tokenizer.save_pretrained(base_dir)
    meta |= {"rows": len(rows), "seconds": round(time.monotonic() - started, 1)}
    meta |= {"parameters": model.num_parameters(), "profile": config.profile, "seed": config.seed}
    write_mark(base_dir / META, meta)
    return meta


def snap_to_nf4(model: Qwen2ForCausalLM) -> None:
    """Round the linear layers to what NF4 can hold, in place.

    The adapter is trained on the 4-bit base and served on the unquantised one. Rounded first, the
    two bases hold nearly the same numbers (double quantisation leaves a trace).
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                packed, state = quantize_4bit(module.weight.data, quant_type="nf4")
                module.weight.data = dequantize_4bit(packed, state).to(module.weight.dtype)


def main() -> None:
    """Make or check the base and report it through Pipes."""
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        config = QLoRAConfig.model_validate(pipes.extras["config"])
        base_dir = Path(pipes.extras["base_dir"])
        meta: dict[str, Any] = {}
        if not config.base_model:
            folder = Path(pipes.extras["dataset_dir"])
            if frozen := pipes.extras.get("dataset_id"):
                check_frozen(folder, frozen)
            meta = pretrain_tiny(folder, base_dir, config, pipes.log.info)
            if said := cut_short([ending("base model", meta, str(base_dir))]):
                pipes.log.warning(said)
        pipes.report_asset_materialization(
            metadata={"base": resolve_base(config, base_dir), **meta}
        )


if __name__ == "__main__":
    main()
