"""A base with random weights in NF4, and made-up rows to train it on: nothing is downloaded.

Trains and measures nothing; `qlora_7b` and `gpu_proof` do.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Qwen2Config, Qwen3Config

from benchmarks.gpu_plan import ANSWER_SHARE
from loop_pipeline.training.base_model import train_tokenizer
from loop_pipeline.training.memory_estimate import Architecture
from loop_pipeline.training.qlora.sft import Tokens
from loop_pipeline.training.qlora.tokens import Row

# So few words that each is about one token of a tokenizer trained on them.
WORDS = 400
SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru", "sa", "te", "vi", "zo")
# Lengths of logged requests differ widely: log-normal, this share of the longest in the middle.
MEDIAN_LENGTH = 0.2
SPREAD = 1.0


def make_rows(count: int, length: int, seed: int = 0) -> list[Row]:
    """Rows of made-up words, of very different lengths.

    Args:
        count: How many.
        length: Tokens at which a training would cut; one row in twenty is longer.
        seed: Of the random numbers.
    """
    draw = random.Random(seed)
    lexicon = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(WORDS)]
    often = [1 / rank for rank in range(1, WORDS + 1)]
    rows: list[Row] = []
    for number in range(count):
        size = round(MEDIAN_LENGTH * length * math.exp(SPREAD * draw.gauss(0, 1)))
        size = max(12, min(size, round(1.5 * length)))
        answer = max(2, round(ANSWER_SHARE * size))
        words = draw.choices(lexicon, often, k=size)
        rows.append(
            {
                "prompt_id": f"p{number}",
                "prompt": [{"role": "user", "content": " ".join(words[answer:])}],
                "completion": [{"role": "assistant", "content": " ".join(words[:answer])}],
                "group": "",
            }
        )
    return rows


def full_tokens(rows: int, length: int) -> Tokens:
    """Rows of random tokens, each of the full length."""
    ids = torch.randint(8, 256, (rows, length)).tolist()
    size = length - round(length * ANSWER_SHARE)
    return Tokens([(row[:size], row[size:]) for row in ids], [], length, 0)


def write_set(train: list[Row], validation: list[Row], folder: Path) -> None:
    """A training set as the pipeline freezes it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("validation", validation)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    sha256 = hashlib.sha256((folder / "train.jsonl").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({"sha256": sha256}), encoding="utf-8")


def write_base(shape: Architecture, rows: list[Row], length: int, folder: Path) -> None:
    """Write a base with random weights and a tokenizer trained on the rows, as a hub has them.

    The weights are drawn in 16 bits on the GPU if there is one, and quantised there before they are
    written: a 7B base takes 5.5 GB of disk instead of 15.

    Args:
        shape: Of the model.
        rows: What the tokenizer is trained on.
        length: Longest row in tokens.
        folder: Where it goes.
    """
    gpu = torch.cuda.is_available()
    kind = Qwen3Config if shape.head_norm else Qwen2Config
    fields: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 2 * length,
        "tie_word_embeddings": shape.tied,
    }
    config = kind(**fields)
    with torch.device("cuda" if gpu else "cpu"):
        whole = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = type(whole).from_pretrained(
        None,
        config=config,
        state_dict=whole.state_dict(),
        quantization_config=quantised,
        dtype=torch.bfloat16,
        device_map={"": 0 if gpu else "cpu"},
    )
    model.save_pretrained(folder)
    train_tokenizer(rows, length).save_pretrained(folder)
    del whole, model
    if gpu:
        torch.cuda.empty_cache()
