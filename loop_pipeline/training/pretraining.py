"""The tiny model and how it is trained from scratch: batches, loss, steps, and when it is over.

What is read and written on the way is up to ``base_model``.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.endings import Ended
from loop_pipeline.training.qlora.tokens import SECONDS_BETWEEN_LINES, Encoded, Log
from loop_pipeline.training.tiny_tokenizer import END_ID, MASK_ID, PAD_ID, SPECIALS

# The model, sized for minutes on two CPU cores.
HIDDEN = 192
LAYERS = 3
INTERMEDIATE = 576
HEAD = 32
# Chosen on the calibration splits of CLINC150 and HEADLINES.
BATCH = 64
# At 3e-3 it was a matter of luck how soon a set began to be learned.
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.1
WARM_UP = 0.1
# Share of words hidden from the prompt: no answer may hang on one of them.
MASKED = 0.1
# Small sets are read more often than large ones, but no row more often than this.
MOST_EPOCHS = 30
# Times that the validation loss is looked at on the way.
EVALUATIONS = 20


def new_model(vocabulary: int, positions: int) -> Qwen2ForCausalLM:
    """The tiny model before it has learned anything."""
    config = Qwen2Config(
        vocab_size=math.ceil(vocabulary / 64) * 64,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // HEAD,
        num_key_value_heads=HIDDEN // HEAD,
        max_position_embeddings=positions,
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


def to_tensors(batch: list[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
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
        self.batches = [to_tensors(order[i : i + BATCH]) for i in range(0, len(order), BATCH)]
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


def make_optimizer(model: Qwen2ForCausalLM) -> torch.optim.AdamW:
    """AdamW; vectors do not decay."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True)


def planned_steps(encoded: list[Encoded], tokens: int) -> int:
    """Steps that read so many tokens, but no row too often."""
    size = sum(len(prompt) + len(answer) for prompt, answer in encoded)
    epochs = min(MOST_EPOCHS, tokens / size)
    return max(20, round(epochs * math.ceil(len(encoded) / BATCH)))


def fit(
    model: Qwen2ForCausalLM,
    encoded: list[Encoded],
    held_out: list[Encoded],
    config: QLoRAConfig,
    log: Log,
) -> dict[str, Any]:
    """AdamW, warm-up and a cosine over the planned steps."""
    steps, adamw, best = (
        planned_steps(encoded, config.base_tokens),
        make_optimizer(model),
        _Best(held_out),
    )
    pace = _Pace(steps, log)
    ended_by: Ended = "steps"
    model.train()
    for step, batch in enumerate(itertools.islice(_batches(encoded, config.seed), steps), 1):
        rate = min(1.0, step / (WARM_UP * steps)) * (1 + math.cos(math.pi * (step - 1) / steps)) / 2
        for group in adamw.param_groups:
            group["lr"] = LEARNING_RATE * rate
        tokens, labels = to_tensors(batch)
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
