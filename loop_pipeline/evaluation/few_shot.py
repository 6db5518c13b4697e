"""The base model with examples in its prompt: what the set is worth without training.

Not here: other contestants (``contestants.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.evaluation.held_out import evaluate
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.hashing import digest
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.traces.messages import SYSTEM_ROLES, request_text
from loop_pipeline.whole_file import read_rows

SHOTS = 3
# Examples are looked for among so many training rows: embedding more takes minutes.
POOL = 20_000

Turns = list[dict[str, Any]]


def nearest_examples(
    traces: pd.DataFrame, train_file: Path, embedder: TextEmbedder, *, shots: int = SHOTS
) -> list[list[Turns]]:
    """Training rows that are most like each request, of the same prompt template.

    Args:
        traces: requests, with ``messages`` and ``template_hash``.
        train_file: the frozen training split (JSONL with ``prompt``, ``completion``, ``group``).
        embedder: finds the nearest, by cosine of the last user turn.
        shots: examples a request.

    Returns:
        For each request its examples as turns without system prompt, the nearest first; fewer where
        its template has fewer.
    """
    pool = _pool(train_file)
    found: list[list[Turns]] = [[] for _ in range(len(traces))]
    asked = embedder.transform([request_text(messages) for messages in traces["messages"]])
    templates = traces["template_hash"].to_numpy()
    for template, rows in pool.groupby("group"):
        places = np.flatnonzero(templates == template)
        turns = rows["turns"].tolist()
        known = embedder.transform([request_text(example) for example in turns])
        for start in range(0, len(places), 512):
            batch = places[start : start + 512]
            nearest = np.argsort(-(asked[batch] @ known.T), axis=1, kind="stable")[:, :shots]
            for place, examples in zip(batch, nearest, strict=True):
                found[place] = [turns[i] for i in examples]
    return found


def _pool(train_file: Path) -> pd.DataFrame:
    rows = []
    fields = ("prompt_id", "prompt", "completion", "group")
    for row in read_rows(train_file, fields, mend="materialize training_set to write it anew"):
        turns = [m for m in row["prompt"] if m["role"] not in SYSTEM_ROLES] + row["completion"]
        rows.append({"id": row["prompt_id"], "group": row["group"], "turns": turns})
    pool = pd.DataFrame(rows, columns=pd.Index(["id", "group", "turns"]))
    if len(pool) > POOL:  # by hash: the same rows whenever it is asked
        pool = pool.iloc[np.argsort([digest("few-shot", str(i)) for i in pool["id"]])[:POOL]]
    return pool


def with_examples(messages: Sequence[dict[str, Any]], examples: Sequence[Turns]) -> Turns:
    """A request with examples as earlier turns, the nearest next to the question."""
    start = next(
        (i for i, m in enumerate(messages) if m["role"] not in SYSTEM_ROLES), len(messages)
    )
    shown = [turn for example in reversed(examples) for turn in example]
    return [*messages[:start], *shown, *messages[start:]]


def evaluate_few_shot(
    server: StudentServer,
    traces: pd.DataFrame,
    examples: Sequence[Sequence[Turns]],
    *,
    checkpoint_id: str,
    say: Callable[[str], None],
) -> pd.DataFrame:
    """Answer requests with the base model and examples; with fewer where they do not fit.

    Only the server knows its tokenizer and its context, so that it is asked: a prompt that it
    refuses as too long comes again with one example less.

    Args:
        server: serves the base as ``base``.
        traces: as for `held_out.evaluate`.
        examples: what `nearest_examples` found for them.
        checkpoint_id: who answers.
        say: told how many requests had how many examples.

    Returns:
        As `held_out.evaluate`, in the order of ``traces``.
    """
    left = traces.assign(examples=pd.Series(list(examples), index=traces.index, dtype=object))
    parts: list[pd.DataFrame] = []
    used: dict[int, int] = {}
    for shots in range(max(map(len, examples), default=0), -1, -1):
        answered, left = _with_so_many(server, left, shots, checkpoint_id)
        parts.append(answered)
        used[shots] = len(answered)
        if left.empty:
            break
    counts = ", ".join(f"{n} with {shots}" for shots, n in used.items() if n)
    say(f"{checkpoint_id}: examples in the prompt: {counts}")
    whole = pd.concat(parts).set_index("prompt_id")
    return whole.loc[traces["prompt_id"]].reset_index()[list(parts[0].columns)]


def _with_so_many(
    server: StudentServer, left: pd.DataFrame, shots: int, checkpoint_id: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answers to the requests that fit with so many examples, and the requests that do not."""
    shown = [
        with_examples(messages, found[:shots])
        for messages, found in zip(left["messages"], left["examples"], strict=True)
    ]
    asked = left.assign(messages=pd.Series(shown, index=left.index, dtype=object))
    answered = evaluate(server, "base", asked, checkpoint_id=checkpoint_id)
    fits = np.ones(len(left), dtype=bool)
    if shots:
        fits = answered["finish_reason"].ne("too_long").to_numpy(dtype=bool)
    return answered[fits], left[~fits]
