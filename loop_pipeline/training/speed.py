"""How fast the tiny base trains on this machine now: ``python -m loop_pipeline.training.speed``.

It only measures: what to do with a slow or busy machine is up to the one who asks.
"""

from __future__ import annotations

import time

import torch

from loop_pipeline.training.pretraining import BATCH, make_optimizer, new_model, take_step
from loop_pipeline.training.tiny_tokenizer import SPECIALS, VOCABULARY

SECONDS = 4.0
# Tokens of a prompt and an answer, about as many as the rows of the simulated desk have.
PROMPT = 32
ANSWER = 6


def tokens_per_second(seconds: float = SECONDS) -> float:
    """Take real steps on made-up rows for so long, after two that are not counted."""
    torch.manual_seed(0)
    model = new_model(VOCABULARY, 256)
    adamw = make_optimizer(model)
    tokens = torch.randint(len(SPECIALS), VOCABULARY, (BATCH, PROMPT + ANSWER))
    labels = tokens.clone()
    labels[:, :PROMPT] = -100
    for _ in range(2):
        take_step(model, adamw, tokens, labels)
    started, steps = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        take_step(model, adamw, tokens, labels)
        steps += 1
    return steps * tokens.numel() / (time.monotonic() - started)


if __name__ == "__main__":
    print(round(tokens_per_second()))
