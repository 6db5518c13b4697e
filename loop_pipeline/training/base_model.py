"""The base model a student starts from.

Dagster runs it through Pipes: ``python -m loop_pipeline.training.base_model``.

The ``tiny`` profile makes its own: a byte-level BPE tokenizer and a small Qwen2 model, trained
from scratch on the run's own training split. Other profiles name a model that exists.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.qlora.adapter_folder import write_mark
from loop_pipeline.training.qlora.load_model import resolve_base
from loop_pipeline.training.qlora.tokens import (
    SECONDS_BETWEEN_LINES,
    Encoded,
    Log,
    Row,
    encode,
    read_rows,
)

# The recipe of the tiny base, sized for minutes on two CPU cores; chosen on the calibration splits
# of CLINC150 and HEADLINES.
# A small set cannot teach the meaning of rare tokens: one token for every third row.
VOCABULARY, SMALLEST_VOCABULARY, ROWS_PER_TOKEN = 4096, 1024, 3
HIDDEN, LAYERS, INTERMEDIATE, HEAD = 192, 3, 576, 32
# At 3e-3 it was a matter of luck how soon a set began to be learned.
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 1.5e-3, 0.1
# Share of words hidden from the prompt: no answer may hang on one of them.
MASKED = 0.1
# Small sets are read more often than large ones, so that every set ends within minutes.
MOST_EPOCHS, TOKENS_SEEN = 30, 1_600_000

UNKNOWN, END, PAD, MASK = "<|endoftext|>", "<|im_end|>", "<|pad|>", "<|mask|>"
TURNS = ["<|im_start|>system\n", "\n<|im_start|>user\n", "\n<|im_start|>assistant\n"]
SPECIALS = [UNKNOWN, "<|im_start|>", END, PAD, MASK, *TURNS]  # ids 0, 1, 2, ...
END_ID, PAD_ID, MASK_ID = (SPECIALS.index(token) for token in (END, PAD, MASK))
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer(rows: list[Row], max_length: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with ChatML turns on the rows' texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    bpe.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=min(VOCABULARY, max(SMALLEST_VOCABULARY, len(rows) // ROWS_PER_TOKEN)),
        min_frequency=2,
        show_progress=False,
        # One token a turn: a third of a short request would be scaffolding otherwise.
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (m["content"] for row in rows for m in row["prompt"] + row["completion"])
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token=MASK,
        model_max_length=max(1024, max_length),
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def pretrain_tiny(rows: list[Row], base_dir: Path, config: QLoRAConfig, log: Log) -> dict[str, Any]:
    """Make the tiny base from the training split, once.

    Args:
        rows: The training split.
        base_dir: Folder of the base; its ``meta.json``, written last, marks it as complete.
        config: ``seed``, ``max_length`` and ``max_minutes`` are used.
        log: Takes a progress line about every ten seconds.

    Returns:
        What ``meta.json`` says: parameters, rows, steps, tokens seen, last loss, seconds.
    """
    if (base_dir / "meta.json").exists():
        log(f"base {base_dir} is complete: reused")
        return json.loads((base_dir / "meta.json").read_text(encoding="utf-8"))
    started = time.monotonic()
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(rows, config.max_length)
    encoded, _ = encode(tokenizer, rows, config.max_length)
    model = _new_model(tokenizer)
    meta = _fit(model, encoded, config, log)
    snap_to_nf4(model)
    model.save_pretrained(base_dir)
    tokenizer.save_pretrained(base_dir)
    meta |= {"rows": len(rows), "seconds": round(time.monotonic() - started, 1)}
    meta |= {"parameters": model.num_parameters(), "profile": config.profile, "seed": config.seed}
    write_mark(base_dir / "meta.json", meta)
    return meta


def _new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=math.ceil(len(tokenizer) / 64) * 64,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return Qwen2ForCausalLM(config)


def _batches(encoded: list[Encoded], seed: int) -> Iterator[list[Encoded]]:
    """Batches of rows of about the same length, for ever: padding would be half of the work."""
    shuffle = random.Random(seed)
    while True:
        rows = shuffle.sample(encoded, len(encoded))
        batches = []
        for i in range(0, len(rows), BATCH * 20):
            pool = sorted(rows[i : i + BATCH * 20], key=lambda row: len(row[0]) + len(row[1]))
            batches += [pool[k : k + BATCH] for k in range(0, len(pool), BATCH)]
        shuffle.shuffle(batches)
        yield from batches


def _tensors(batch: list[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and completion labels (-100 elsewhere), both (rows, longest)."""
    longest = max(len(prompt) + len(answer) for prompt, answer in batch)
    tokens = torch.full((len(batch), longest), PAD_ID)
    labels = torch.full((len(batch), longest), -100)
    for i, (prompt, answer) in enumerate(batch):
        end = len(prompt) + len(answer)
        tokens[i, :end] = torch.tensor(prompt + answer)
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return tokens, labels


def _loss(model: Qwen2ForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed completion loss a row. Padding is on the right, so causality alone hides it."""
    words = (labels == -100) & (tokens >= len(SPECIALS))
    hidden = tokens.masked_fill(words & (torch.rand(tokens.shape) < MASKED), MASK_ID)
    states = model.model(input_ids=hidden).last_hidden_state[:, :-1]
    keep = labels[:, 1:] != -100
    logits = model.lm_head(states[keep])
    return functional.cross_entropy(logits, labels[:, 1:][keep], reduction="sum") / len(tokens)


def _fit(
    model: Qwen2ForCausalLM,
    encoded: list[Encoded],
    config: QLoRAConfig,
    log: Log,
) -> dict[str, Any]:
    """AdamW, warm-up, and a cosine that ends when the steps or the minutes are over."""
    size = sum(len(prompt) + len(answer) for prompt, answer in encoded)
    epochs = min(MOST_EPOCHS, TOKENS_SEEN / size)
    steps = max(20, round(epochs * math.ceil(len(encoded) / BATCH)))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True)
    started, said, step, seen, smooth = time.monotonic(), 0.0, 0, 0, 0.0
    model.train()
    for batch in _batches(encoded, config.seed):
        elapsed = time.monotonic() - started
        done = max(step / steps, elapsed / (60 * config.max_minutes))
        if done >= 1:
            break
        rate = min(1.0, (step + 1) / (0.1 * steps)) * (1 + math.cos(math.pi * done)) / 2
        for group in adamw.param_groups:
            group["lr"] = LEARNING_RATE * rate
        tokens, labels = _tensors(batch)
        loss = _loss(model, tokens, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        step, seen = step + 1, seen + tokens.numel()
        smooth = 0.95 * smooth + 0.05 * loss.item()
        if elapsed - said >= SECONDS_BETWEEN_LINES:
            said = elapsed
            log(
                f"base: step {step}/{steps}, loss {smooth / (1 - 0.95**step):.3f}, "
                f"{seen / elapsed:,.0f} tokens/s, {elapsed * (1 / done - 1):.0f} s to go"
            )
    last = round(smooth / (1 - 0.95**step), 4)
    return {"steps": step, "epochs": round(epochs, 2), "tokens_seen": seen, "loss_last": last}


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
            rows = read_rows(Path(pipes.extras["dataset_dir"]))
            meta = pretrain_tiny(rows, base_dir, config, pipes.log.info)
        pipes.report_asset_materialization(
            metadata={"base": resolve_base(config, base_dir), **meta}
        )


if __name__ == "__main__":
    main()
