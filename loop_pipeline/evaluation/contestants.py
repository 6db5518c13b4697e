"""Who answers held-out requests beside a candidate, and where the answers are kept.

Not here: who wins (``contest.py``).

Every contestant answers through the server that will serve the student, and only what it has not
answered yet: ``student_answers`` keeps the rest under the contestant's key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.evaluation.few_shot import SHOTS, evaluate_few_shot, nearest_examples
from loop_pipeline.evaluation.held_out import evaluate
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.hashing import digest
from loop_pipeline.serving import student_server as vllm
from loop_pipeline.serving.adapter_check import flaw
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import read, records, upsert
from loop_pipeline.store.tables import StudentAnswerRow
from loop_pipeline.training.dataset.frozen_check import check_frozen
from loop_pipeline.whole_file import read_object

# Those that are only shown for comparison answer so many gold rows, always the same ones.
SAMPLE = 1_000
# Answers are stored in blocks of so many: what is killed goes on where it was.
BLOCK = 2_000

Ask = Callable[[StudentServer, pd.DataFrame, Callable[[str], None]], pd.DataFrame]


@dataclass(frozen=True)
class Contestant:
    """Answers under the key ``key``, from a base model that has to be the served one."""

    key: str
    base_dir: str
    ask: Ask


def student(checkpoint: Mapping[str, Any]) -> Contestant:
    """A checkpoint's adapter, loaded when it is asked."""
    key, folder = checkpoint["checkpoint_id"], checkpoint["adapter_dir"]
    config = (checkpoint.get("metrics") or {}).get("config_sha256") or ""

    def ask(server: StudentServer, traces: pd.DataFrame, say: Callable[[str], None]) -> Any:
        if problem := flaw(Path(folder), checkpoint["adapter_sha256"], config):
            raise ServerError(f"{adapter_name(key)} is not evaluated: {problem}")
        server.load(adapter_name(key), folder)
        return evaluate(
            server,
            adapter_name(key),
            traces,
            checkpoint_id=key,
            on_progress=lambda done, of: say(f"{key[:12]}: {done} of {of} answered"),
        )

    return Contestant(key, checkpoint["base_dir"], ask)


def base_model(checkpoint: Mapping[str, Any]) -> Contestant:
    """The base of a checkpoint without its adapter. Another base has another key."""
    key = f"base:{digest(*_base_facts(checkpoint))[:12]}"

    def ask(server: StudentServer, traces: pd.DataFrame, _say: Callable[[str], None]) -> Any:
        return evaluate(server, "base", traces, checkpoint_id=key)

    return Contestant(key, checkpoint["base_dir"], ask)


def few_shot_base(
    checkpoint: Mapping[str, Any], dataset: Mapping[str, Any], embedder: TextEmbedder
) -> Contestant:
    """The base with the nearest rows of the training set in its prompt.

    The key holds everything that the examples follow from: base, training set, embedder, number.
    """
    names = (*_base_facts(checkpoint), dataset["dataset_id"], embedder.version, str(SHOTS))
    key = f"base+few-shot:{digest(*names)[:12]}"

    def ask(server: StudentServer, traces: pd.DataFrame, say: Callable[[str], None]) -> Any:
        check_frozen(Path(dataset["folder"]), dataset["dataset_id"])
        examples = nearest_examples(traces, Path(dataset["folder"]) / "train.jsonl", embedder)
        return evaluate_few_shot(
            server,
            traces,
            examples,
            checkpoint_id=key,
            say=say,
        )

    return Contestant(key, checkpoint["base_dir"], ask)


def _base_facts(checkpoint: Mapping[str, Any]) -> tuple[str, str]:
    """What names a base: what the adapter says, and how a base that was made here was made."""
    meta = Path(checkpoint["adapter_dir"]) / "meta.json"
    made = Path(checkpoint["base_dir"]) / "meta.json"
    said = read_object(meta, ("base",), mend="train it again") if meta.is_file() else {}
    name = said.get("base", "")
    return name or checkpoint["base_dir"], made.read_text("utf-8") if made.is_file() else ""


def base_was_fitted(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the base was made from this traffic, as the ``tiny`` profile's is: no bare floor."""
    return (Path(checkpoint["base_dir"]) / "meta.json").is_file()


def sample(gold: pd.DataFrame) -> pd.DataFrame:
    """The gold rows for those shown for comparison: the same ones as long as there are no more."""
    ranked = pd.Series([digest("contestants", str(k)) for k in gold["dedup_key"]], gold.index)
    return gold.loc[ranked.sort_values().index[:SAMPLE]]


def answers_of(
    contestant: Contestant,
    traces: pd.DataFrame,
    *,
    engine: Engine,
    server: StudentServer,
    say: Callable[[str], None],
    again: bool = False,
) -> pd.DataFrame:
    """A contestant's answers to these requests; only those it has not answered yet are asked.

    Args:
        contestant: who answers.
        traces: the requests, as `held_out.evaluate` takes them.
        engine: the store.
        server: serves the base; it is not touched if nothing is missing.
        say: takes progress lines.
        again: ask again what did not fit the context.

    Raises:
        ServerError: the server is not there, has another base, or refused; what was answered until
            then is kept.
    """
    known = read(engine, StudentAnswerRow, checkpoint_id=contestant.key)
    kept = known[known["finish_reason"] != "too_long"] if again else known
    missing = traces[~traces["prompt_id"].isin(set(kept["prompt_id"]))]
    if len(missing):
        server.wait_ready(vllm.START_S)
        server.check_base(contestant.base_dir)
        say(f"asking {contestant.key[:20]} {len(missing)} held-out requests at {server.address}")
    for start in range(0, len(missing), BLOCK):
        answered = contestant.ask(server, missing.iloc[start : start + BLOCK], say)
        with engine.begin() as connection:
            upsert(connection, StudentAnswerRow, records(answered))
    if len(missing):
        known = read(engine, StudentAnswerRow, checkpoint_id=contestant.key)
    return known[known["prompt_id"].isin(set(traces["prompt_id"]))].reset_index(drop=True)
