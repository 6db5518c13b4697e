"""Rows of a training set as the tokens a student sees, rendered as the server renders them.

Not here: which rows there are (``training/dataset``).

A prompt is rendered here as the server renders it: one way to train, one way to ask.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from loop_pipeline.whole_file import read_rows as read_rows_of

MEND = "materialize training_set to write it anew"
Row = dict[str, Any]
Log = Callable[[str], None]
Encoded = tuple[list[int], list[int]]  # tokens of the prompt, tokens of the completion

SECONDS_BETWEEN_LINES = 10
# Enough to tell a better checkpoint, few enough to cost little beside the steps between two.
VALIDATION_ROWS = 256


def read_rows(dataset_dir: Path, split: str = "train") -> list[Row]:
    """Read one split of a training set.

    Raises:
        ValueError: if a line is no such row, with its file and line, or if there is none at all.
    """
    path = dataset_dir / f"{split}.jsonl"
    rows = read_lines(path, "prompt/completion", ("prompt", "completion"))
    if not rows:
        raise ValueError(f"{path} is empty: no validated pair to train on; label more traces first")
    return rows


def read_validation(dataset_dir: Path) -> list[Row]:
    """A fixed sample of the validation rows of a training set; empty if it has none.

    Raises:
        ValueError: if a line is no such row, with its file and line.
    """
    path = dataset_dir / "validation.jsonl"
    rows = read_lines(path, "prompt/completion", ("prompt", "completion"))
    return random.Random(0).sample(rows, min(VALIDATION_ROWS, len(rows)))


def read_lines(
    path: Path, kind: str, turns: tuple[str, ...], others: tuple[str, ...] = ()
) -> list[Row]:
    """Read rows whose fields ``turns`` are lists of messages; none if there is no such file.

    Raises:
        ValueError: if a line is no such row, with its file and line.
    """
    rows: list[Row] = []
    needed = ("prompt_id", *others, *turns)
    found = read_rows_of(path, needed, mend=f"not a {kind} row; {MEND}") if path.exists() else ()
    for number, row in enumerate(found, 1):
        try:
            _ = [row[name][0]["content"] for name in turns]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a {kind} row ({error!r}); {MEND}") from error
        rows.append(row)
    return rows


def template_arguments(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What every rendering, also the server's, has to pass: thinking off where there is a switch.

    Logged answers have no thoughts to learn from. Qwen3's template knows ``enable_thinking``.
    """
    known = "enable_thinking" in str(tokenizer.chat_template)
    return {"enable_thinking": False} if known else {}


def encode(
    tokenizer: PreTrainedTokenizerFast, rows: list[Row], max_length: int
) -> tuple[list[Encoded], int]:
    """Render and tokenise rows; a row that is too long loses the start of its prompt.

    Args:
        tokenizer: of the base.
        rows: as ``chat_rows.renderable`` leaves them: the base's template takes every one.
        max_length: tokens of a row, at most.

    Returns:
        Tokens of prompt and completion of each row whose answer fits, and how many were cut.
    """
    texts = [rendered(tokenizer, row) for row in rows]
    prompts = [prompt for prompt, _ in texts]
    wholes = [
        _after(prompt, whole, row["completion"][0]["content"])
        for (prompt, whole), row in zip(texts, rows, strict=True)
    ]
    tokens = tokenizer(prompts + wholes, add_special_tokens=False)["input_ids"] if rows else []
    pairs = zip(tokens[: len(rows)], tokens[len(rows) :], strict=True)
    whole_rows = [_split(prompt, whole) for prompt, whole in pairs]
    return cut(whole_rows, max_length)


def rendered(tokenizer: PreTrainedTokenizerFast, row: Row) -> tuple[str, str]:
    """What the base's template makes of the prompt, and of the prompt with its answer."""
    arguments = template_arguments(tokenizer)
    prompt, whole = (
        tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=asked, **arguments
        )
        for turns, asked in ((row["prompt"], True), (row["prompt"] + row["completion"], False))
    )
    return str(prompt), str(whole)


def _after(prompt: str, whole: str, answer: str) -> str:
    """The conversation with its answer, beginning with the prompt as it is served.

    Some templates render the last turn differently once it is answered (an empty thought is left
    out). A student trained on that would be asked with another prompt than it has learned.
    """
    start = whole.rfind(answer.strip())
    return whole if whole.startswith(prompt) or start < 0 else prompt + whole[start:]


def _split(prompt: list[int], whole: list[int]) -> Encoded:
    """Where the tokens differ the answer starts: some tokenizers merge across the boundary."""
    differs = (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b)
    start = next(differs, min(len(prompt), len(whole)))
    return whole[:start], whole[start:]


def cut(encoded: list[Encoded], max_length: int) -> tuple[list[Encoded], int]:
    """Shorten rows to ``max_length`` tokens: the prompt's start goes, an answer is never cut.

    A row whose answer would leave its prompt less than half is left out.

    Returns:
        The rows, and how many of them were cut.
    """
    short: list[Encoded] = []
    shortened = 0
    for prompt, answer in encoded:
        over = len(prompt) + len(answer) - max_length
        if over > 0 and len(answer) > max_length // 2:
            continue
        short.append((prompt[max(0, over) :], answer))
        shortened += over > 0
    return short, shortened


def p99_length(encoded: list[Encoded]) -> int:
    """The 99th percentile of the rows' tokens, up to the next multiple of eight."""
    lengths = [len(prompt) + len(answer) for prompt, answer in encoded]
    return 8 * math.ceil(float(np.percentile(lengths, 99, method="inverted_cdf")) / 8)
