"""What a model answers to held-out requests, through its server, and what is wrong with it.

Not here: comparing two models (``contest.py``).

Agreement compares with the frontier's logged answer; quality with the best answer that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.answers.agreement import agrees, fields_right, kind_of, rouge_l, tags_of
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.serving.ask_many import answer_all
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.serving.student_server import StudentServer

COLUMNS = (
    "checkpoint_id",
    "prompt_id",
    "split",
    "output",
    "frontier_output",
    "agrees",
    "logprob_min",
    "logprob_p10",
    "logprob_mean",
    "logprob_sum",
    "tokens_in",
    "tokens_out",
    "finish_reason",
    "latency_ms",
)


def evaluate(
    server: StudentServer,
    model: str,
    traces: pd.DataFrame,
    *,
    checkpoint_id: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Answer the requests of frontier traces with the student.

    Args:
        server: serves the student.
        model: the adapter's name there, or ``base``.
        traces: rows to answer, as `store.traces.read_traces` gives them.
        checkpoint_id: who answers.
        on_progress: called with (answered, all) every few seconds.

    Returns:
        One row a trace with the columns of ``student_answers``. A request that is longer than the
        student's context has an empty answer, finish reason ``too_long``, and does not agree.

    Raises:
        ValueError: a trace is not the frontier's, or there is none.
        ServerError: the server failed; nothing is returned in part.
    """
    if traces.empty:
        raise ValueError("no held-out trace to evaluate on: import more traces")
    foreign = traces.loc[traces["producer"] != "frontier", "prompt_id"]
    if len(foreign):
        raise ValueError(f"trace {foreign.iloc[0]!r} is not the frontier's: nothing to agree with")
    try:
        answers = answer_all(server, model, list(traces["messages"]), on_progress=on_progress)
    except ServerError as error:
        raise ServerError(f"evaluation of {checkpoint_id} as {model!r} stopped: {error}") from error
    rows = [
        _row(answer, trace, checkpoint_id)
        for answer, trace in zip(answers, traces.to_dict("records"), strict=True)
    ]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _row(answer: Answer, trace: Mapping[Any, Any], checkpoint_id: str) -> dict[str, Any]:
    same = answer.finish_reason != "too_long" and agrees(
        answer.text, trace["output"], trace["contract"]
    )
    return {
        "checkpoint_id": checkpoint_id,
        "prompt_id": trace["prompt_id"],
        "split": trace["split"],
        "output": answer.text,
        "frontier_output": trace["output"],
        "agrees": same,
        "logprob_min": answer.logprob_min,
        "logprob_p10": answer.logprob_p10,
        "logprob_mean": answer.logprob_mean,
        "logprob_sum": answer.logprob_sum,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "finish_reason": answer.finish_reason,
        "latency_ms": answer.latency_ms,
    }


def mark_answers(
    answers: pd.DataFrame, traces: pd.DataFrame, embedder: TextEmbedder, tiers: Tiers
) -> pd.DataFrame:
    """Hold each answer against its request, its contract and the frontier's answer.

    Args:
        answers: ``student_answers`` rows of one model.
        traces: frontier traces of at least these prompts, with ``contract``; columns ``reference``
            (a human's edit, else the frontier's answer) and ``group_id`` are kept if they are
            there. The usual form of the answers to a template is learned from all of them.
        embedder: of the similarity of texts.
        tiers: who looks for hallucinations in texts.

    Returns:
        ``answers``, rows and index as they were, with ``task``, ``kind`` (of the contract),
        ``messages``, ``valid`` (nothing known is wrong with its form: T0), ``told`` (whether
        anything can be told), ``flagged`` (T0 or T1 found a hallucination), ``reasons``,
        ``confidence`` (the model's probability of its whole answer), and where they apply, else
        None: ``same_as_reference``, ``tags`` (given, wanted and common tags), ``fields``,
        ``rouge_l``, ``similarity``.
    """
    mine = traces.set_index("prompt_id").loc[answers["prompt_id"]]
    given = mine.assign(
        output=answers["output"].to_numpy(), finish_reason=answers["finish_reason"].to_numpy()
    )
    flags = flag_hallucinations(given.reset_index(), tiers=tiers, form_of=traces)
    flags = flags.set_index(answers.index)
    kinds = [kind_of(contract) for contract in mine["contract"]]
    columns = {
        "task": mine["task"].fillna("(no task)").to_numpy(),
        "kind": kinds,
        "messages": mine["messages"].to_numpy(),
        "valid": ~(flags["flag"] & (flags["tier"] == "T0")),
        "told": flags["grounded"] != "cannot_tell",
        "flagged": flags["flag"].astype(bool),
        "reasons": flags["reasons"],
        "confidence": np.exp(answers["logprob_sum"].astype(float)),
        "similarity": _similarity(answers, kinds, embedder),
    }
    if "cluster" in mine:
        columns["unit"] = mine["cluster"].to_numpy()
    if "group_id" in mine:
        columns["group_id"] = mine["group_id"].to_numpy()
    compared = [
        _compared(*row)
        for row in zip(
            answers["output"],
            answers["frontier_output"],
            mine["contract"],
            mine["reference"] if "reference" in mine else mine["output"],
            strict=True,
        )
    ]
    extra = pd.DataFrame(compared, index=answers.index, dtype=object)
    return pd.concat([answers.assign(**columns), extra], axis=1)


def _compared(
    output: str, wanted: str, contract: Mapping[str, Any] | None, reference: str
) -> dict[str, Any]:
    kind = kind_of(contract)
    given, right = (
        (tags_of(output, contract), tags_of(wanted, contract)) if kind == "tags" else (set(), set())
    )
    return {
        "same_as_reference": agrees(output, reference, contract),
        "tags": (len(given), len(right), len(given & right)) if kind == "tags" else None,
        "fields": fields_right(output, wanted, contract) if kind == "json" else None,
        "rouge_l": rouge_l(output, wanted) if kind == "text" else None,
    }


def _similarity(answers: pd.DataFrame, kinds: Sequence[str], embedder: TextEmbedder) -> np.ndarray:
    """Cosine of each text to the frontier's; NaN for what is not free text."""
    text = np.array([kind == "text" for kind in kinds], dtype=bool)
    cosine = np.full(len(answers), np.nan)
    rows = answers[text]
    vectors = [embedder.transform(rows[side].tolist()) for side in ("output", "frontier_output")]
    cosine[text] = (vectors[0] * vectors[1]).sum(axis=1)
    return cosine
