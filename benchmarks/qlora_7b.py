"""Does the recipe of a 7B model resolve, fit, and step? With random weights; nothing is downloaded.

    python -m benchmarks.qlora_7b [--profile qwen2.5-7b] [--steps 10] [--recipe recipe.yaml]

Prints the resolved recipe and the memory it needs. Then trains through the pipeline's own path: on
a GPU the whole model (random weights, 15 GB of disk for a while), with tokens a second, peak memory
and the share of the card's bf16 peak; without one a single step of the same architecture, narrow.

The share counts the operations of the forward pass and of the backward pass through frozen weights,
4 a parameter and token; what is recomputed or spent on attention scores is not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen3Config, TrainerCallback

from benchmarks.record import Start, record, table
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.base_model import train_tokenizer
from loop_pipeline.training.memory_estimate import (
    KNOWN,
    Architecture,
    architecture,
    estimate_memory,
)
from loop_pipeline.training.qlora.progress import peak_memory_mb
from loop_pipeline.training.qlora.sft import Tokens, build_trainer

# Dense bf16 operations a second as the makers' data sheets give them.
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10": 125e12, "L4": 121e12}
WARM_UP = 3  # steps


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Wait for the device, then look at the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def narrow(shape: Architecture) -> Architecture:
    """The same layers, heads and ratios, eight values a head, few tokens."""
    scale = shape.head // 8
    return Architecture(
        hidden=shape.hidden // scale,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head=8,
        intermediate=shape.intermediate // scale,
        vocabulary=512,
        tied=shape.tied,
        attention_bias=shape.attention_bias,
        head_norm=shape.head_norm,
    )


def write_model(shape: Architecture, length: int, folder: Path) -> None:
    """A base with random weights and a tokenizer, as a hub would have it."""
    kind = Qwen3Config if shape.head_norm else Qwen2Config
    config = kind(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        max_position_embeddings=2 * length,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    text = [{"prompt": [{"content": "to be or not to be"}], "completion": [{"content": "yes"}]}]
    train_tokenizer(text, length).save_pretrained(folder)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train(config: QLoRAConfig, base: Path, vocabulary: int, steps: int, out: Path) -> Clock:
    """Full-length rows, a quarter of each an answer."""
    count = steps * config.per_device_train_batch_size * config.gradient_accumulation_steps
    size = config.max_length - config.max_length // 4
    ids = torch.randint(8, min(512, vocabulary), (count, config.max_length)).tolist()
    tokens = Tokens([(row[:size], row[size:]) for row in ids], [], config.max_length, 0)
    clock = Clock()
    trainer = build_trainer(config, tokens, str(base), out, clock)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(f"{trainer.state.global_step} steps, loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return clock


def report(config: QLoRAConfig, shape: Architecture, clock: Clock) -> dict[str, Any]:
    """Speed without the first steps, and what it is of the card."""
    ends = clock.ends[WARM_UP - 1 :]
    rows = config.per_device_train_batch_size * config.gradient_accumulation_steps
    speed = rows * config.max_length * (len(ends) - 1) / (ends[-1] - ends[0])
    name = torch.cuda.get_device_name()
    print(f"{name}: {speed:,.0f} tokens/s, peak memory {peak_memory_mb():,.0f} MB")
    peak = next((value for card, value in PEAK.items() if card in name), None)
    if peak:
        counted = shape.quantised + shape.vocabulary * shape.hidden / 4  # loss on a quarter
        print(f"{4 * counted * speed / peak:.1%} of {peak / 1e12:.0f} TFLOPS in bf16")
    return {"tokens a second": speed, "peak memory": peak_memory_mb() / 1e3}


def main() -> None:
    """Resolve, estimate, train, write down."""
    start = Start()
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="qwen2.5-7b", choices=list(KNOWN))
    parser.add_argument("--recipe", type=Path, help="a recipe instead of a profile")
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    config = (
        QLoRAConfig.from_yaml(given.recipe)
        if given.recipe
        else QLoRAConfig.from_profile(given.profile)
    )
    print(yaml.safe_dump(config.model_dump(), sort_keys=False))
    shape, gpu = architecture(config), torch.cuda.is_available()
    print(f"{(shape.quantised + shape.others) / 1e9:.2f} G parameters, ", end="")
    print(
        f"{shape.adapter(config.lora_r) / 1e6:.1f} M of them new in the adapter; on one GPU (GB):"
    )
    estimate = estimate_memory(config)
    parts = {name: round(value / 1e9, 2) for name, value in estimate.model_dump().items()}
    print(f"{json.dumps(parts)} = {estimate.total / 1e9:.1f}")
    if not gpu:
        shape, config = narrow(shape), config.model_copy(update={"max_length": 64})
        print("no GPU here: one step of the same architecture, narrow, 64 tokens a row")
    steps = given.steps + WARM_UP if gpu else 1
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        write_model(shape, config.max_length, base)
        recipe = config.model_copy(update={"num_train_epochs": 1.0, "logging_steps": 1})
        clock = train(recipe, base, shape.vocabulary, steps, Path(folder) / "out")
    found = {
        "recipe": config.profile,
        "parameters": round(shape.quantised + shape.others),
        "of the adapter": round(shape.adapter(config.lora_r)),
        **{f"estimate: {name}": value for name, value in parts.items()},
        "estimate": estimate.total / 1e9,
        **(report(config, shape, clock) if gpu else {"steps, narrow, without a GPU": steps}),
    }
    units = {name: "GB" for name in found if name.startswith(("estimate", "peak"))}
    tables = [table("Random weights", [found], units)]
    record(__file__, __doc__, tables, start, packages=["torch", "transformers", "peft", "trl"])


if __name__ == "__main__":
    main()
