"""The base model a student starts from.

Dagster runs it through Pipes: ``python -m loop_pipeline.training.base_model``.

The ``tiny`` profile makes its own: a byte-level BPE tokenizer and a small Qwen2 model, trained
from scratch on the run's own training split. Other profiles name a model that exists.
"""

from __future__ import annotations

import itertools
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
from loop_pipeline.training.endings import Ended, cut_short, ending
from loop_pipeline.training.qlora.adapter_folder import write_mark
from loop_pipeline.training.qlora.load_model import resolve_base
from loop_pipeline.training.qlora.tokens import (
    SECONDS_BETWEEN_LINES,
    Encoded,
    Log,
    Row,
    encode,
    read_rows,
    read_validation,
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
# Times that the validation loss is looked at on the way.
EVALUATIONS = 20

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


def pretrain_tiny(
    rows: list[Row], validation: list[Row], base_dir: Path, config: QLoRAConfig, log: Log
) -> dict[str, Any]:
    """Make the tiny base from the training split, once.

    It ends when the validation loss has stopped falling or the steps are done, and the weights with
    the lowest validation loss are kept. The clock is a safety; ``ended_by`` says what it was.

    Args:
        rows: The training split.
        validation: A sample of the validation split; without one the steps decide.
        base_dir: Folder of the base; its ``meta.json``, written last, marks it as complete.
        config: ``seed``, ``max_length``, ``patience`` and ``max_minutes`` are used.
        log: Takes a progress line about every ten seconds.

    Returns:
        What ``meta.json`` says: parameters, rows, steps, tokens seen, losses, what ended it.
    """
    if (base_dir / "meta.json").exists():
        log(f"base {base_dir} is complete: reused")
        return json.loads((base_dir / "meta.json").read_text(encoding="utf-8"))
    started = time.monotonic()
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer(rows, config.max_length)
    encoded, _ = encode(tokenizer, rows, config.max_length)
    held_out = encode(tokenizer, validation, config.max_length)[0] if validation else []
    model = _new_model(tokenizer)
    meta = _fit(model, encoded, held_out, config, log)
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
    """Completion loss a row, with some words of the prompts hidden."""
    words = (labels == -100) & (tokens >= len(SPECIALS))
    hidden = tokens.masked_fill(words & (torch.rand(tokens.shape) < MASKED), MASK_ID)
    return _summed(model, hidden, labels) / len(tokens)


def _summed(model: Qwen2ForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Completion loss of all rows. Padding is on the right, so causality alone hides it."""
    states = model.model(input_ids=tokens).last_hidden_state[:, :-1]
    keep = labels[:, 1:] != -100
    logits = model.lm_head(states[keep])
    return functional.cross_entropy(logits, labels[:, 1:][keep], reduction="sum")


class _Best:
    """The weights with the lowest validation loss so far, and how long ago that was."""

    def __init__(self, held_out: list[Encoded]) -> None:
        order = sorted(held_out, key=lambda row: len(row[0]) + len(row[1]))
        self.batches = [_tensors(order[i : i + BATCH]) for i in range(0, len(order), BATCH)]
        self.rows = len(held_out)
        self.loss, self.step, self.waited = math.inf, 0, 0
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def look(self, model: Qwen2ForCausalLM, step: int) -> None:
        """Measure the validation loss a row, and keep the weights if it is the lowest."""
        model.eval()
        summed = [_summed(model, tokens, labels) for tokens, labels in self.batches]
        model.train()
        loss = float(sum(summed)) / self.rows
        self.waited += 1
        if loss < self.loss:
            self.loss, self.step, self.waited = loss, step, 0
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}


def _optimizer(model: Qwen2ForCausalLM) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True)


def planned_steps(encoded: list[Encoded]) -> int:
    """Steps of a whole training: so many tokens, but no row too often."""
    size = sum(len(prompt) + len(answer) for prompt, answer in encoded)
    epochs = min(MOST_EPOCHS, TOKENS_SEEN / size)
    return max(20, round(epochs * math.ceil(len(encoded) / BATCH)))


def _fit(
    model: Qwen2ForCausalLM,
    encoded: list[Encoded],
    held_out: list[Encoded],
    config: QLoRAConfig,
    log: Log,
) -> dict[str, Any]:
    """AdamW, warm-up and a cosine over the planned steps."""
    steps, adamw, best = planned_steps(encoded), _optimizer(model), _Best(held_out)
    pace = _Pace(steps, log)
    ended_by: Ended = "steps"
    model.train()
    for step, batch in enumerate(itertools.islice(_batches(encoded, config.seed), steps), 1):
        rate = min(1.0, step / (0.1 * steps)) * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        for group in adamw.param_groups:
            group["lr"] = LEARNING_RATE * rate
        tokens, labels = _tensors(batch)
        pace.stepped(take_step(model, adamw, tokens, labels), tokens.numel())
        if held_out and (step % max(1, steps // EVALUATIONS) == 0 or step == steps):
            best.look(model, step)
        if best.waited >= config.patience:
            ended_by = "validation loss"
            break
        if pace.elapsed > 60 * config.max_minutes and step < steps:
            ended_by = "clock"
            break
    if best.weights:
        model.load_state_dict(best.weights)
    return {
        "steps": pace.step,
        "steps_planned": steps,
        "ended_by": ended_by,
        "best_step": best.step or pace.step,
        "tokens_seen": pace.tokens,
        "tokens_per_second": round(pace.tokens / pace.elapsed),
        "loss_last": round(pace.loss, 4),
        "validation_loss": round(best.loss, 4) if best.weights else None,
    }


class _Pace:
    """How far a training is, and a line about it every ten seconds."""

    def __init__(self, steps: int, log: Log) -> None:
        self.steps, self.log = steps, log
        self.step, self.tokens, self._smooth = 0, 0, 0.0
        self.started = self.said = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def loss(self) -> float:
        """Of the last steps, smoothed."""
        return self._smooth / (1 - 0.95**self.step)

    def stepped(self, loss: float, tokens: int) -> None:
        self.step, self.tokens = self.step + 1, self.tokens + tokens
        self._smooth = 0.95 * self._smooth + 0.05 * loss
        if time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
            self.said = time.monotonic()
            seconds = self.elapsed / self.step
            self.log(
                f"base: step {self.step}/{self.steps}, loss {self.loss:.3f}, {seconds:.2f} s a"
                f" step, {self.tokens / self.elapsed:,.0f} tokens/s,"
                f" {seconds * (self.steps - self.step):.0f} s to go"
            )


def take_step(
    model: Qwen2ForCausalLM,
    adamw: torch.optim.AdamW,
    tokens: torch.Tensor,
    labels: torch.Tensor,
) -> float:
    """One step of the training, as its speed is measured too. Returns the loss a row."""
    loss = _loss(model, tokens, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adamw.step()
    adamw.zero_grad()
    return loss.item()


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
            rows, validation = read_rows(folder), read_validation(folder)
            meta = pretrain_tiny(rows, validation, base_dir, config, pipes.log.info)
            if said := cut_short([ending("base model", meta, str(base_dir))]):
                pipes.log.warning(said)
        pipes.report_asset_materialization(
            metadata={"base": resolve_base(config, base_dir), **meta}
        )


if __name__ == "__main__":
    main()
