"""Does the recipe of a 7B model resolve, fit, and step?

    python -m benchmarks.qlora_7b [--profile qwen2.5-7b] [--recipe recipe.yaml]

Prints the resolved recipe and the memory it needs on one GPU, then trains one step of the same
architecture, narrow, through the pipeline's own path. Random weights; nothing is downloaded. The
whole model on a GPU is what ``gpu_proof`` trains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
import yaml

from benchmarks.gpu_plan import SMALL_LENGTH, narrow
from benchmarks.random_base import full_tokens, make_rows, write_base
from benchmarks.record import Start, record, table
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.memory_estimate import KNOWN, architecture, estimate_memory
from loop_pipeline.training.qlora.sft import build_trainer


def step(config: QLoRAConfig, folder: Path) -> float:
    """One step of the recipe on a narrow model; its loss."""
    recipe = config.model_copy(
        update={"max_length": SMALL_LENGTH, "num_train_epochs": 1.0, "logging_steps": 1}
    )
    shape = architecture(config)
    write_base(narrow(shape, shape.layers), make_rows(64, SMALL_LENGTH), SMALL_LENGTH, folder)
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    tokens = full_tokens(rows, SMALL_LENGTH)
    trainer = build_trainer(recipe, tokens, str(folder), folder / "out")
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


def main() -> None:
    """Resolve, estimate, step, write down."""
    start = Start()
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="qwen2.5-7b", choices=list(KNOWN))
    parser.add_argument("--recipe", type=Path, help="a recipe instead of a profile")
    given = parser.parse_args()
    config = (
        QLoRAConfig.from_yaml(given.recipe)
        if given.recipe
        else QLoRAConfig.from_profile(given.profile)
    )
    print(yaml.safe_dump(config.model_dump(), sort_keys=False))
    shape = architecture(config)
    adapter = shape.adapter(config.lora_r)
    print(f"{(shape.quantised + shape.others) / 1e9:.2f} G parameters", end="")
    print(f", {adapter / 1e6:.1f} M of them new in the adapter; on one GPU (GB):")
    estimate = estimate_memory(config)
    parts = {name: round(value / 1e9, 2) for name, value in estimate.model_dump().items()}
    print(f"{json.dumps(parts)} = {estimate.total / 1e9:.1f}")
    print(f"one step of the same architecture, narrow, {SMALL_LENGTH} tokens a row:")
    torch.set_num_threads(1)  # several wait for each other longer than these products take
    with tempfile.TemporaryDirectory() as folder:
        loss = step(config, Path(folder))
    print(f"loss {loss:.3f}")
    sizes = {
        "recipe": config.profile,
        "parameters": round(shape.quantised + shape.others),
        "of them new in the adapter": round(adapter),
    }
    memory = {f"of it {name}": value for name, value in parts.items()}
    figures = sizes | {"memory estimated": estimate.total / 1e9} | memory | {"loss, narrow": loss}
    units = dict.fromkeys(("memory estimated", *memory), "GB")
    tables = [table("Random weights, one GPU estimated", [figures], units)]
    record(__file__, __doc__, tables, start, packages=["torch", "transformers", "peft", "trl"])


if __name__ == "__main__":
    main()
