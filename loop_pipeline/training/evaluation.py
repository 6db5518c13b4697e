"""What a student answers to held-out requests, through the server that serves it; how good it is.

Agreement compares with the frontier's logged answer; quality with the best answer that is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from loop_pipeline.labels.hallucination.contract import check_contract, unsupported_facts
from loop_pipeline.serving.vllm import Answer, ServerError, StudentServer, answer_all

LEXICAL = 0.8
MEASURES = {
    False: "exact agreement",
    True: f"lexical agreement (ROUGE-L >= {LEXICAL}, same numbers)",
}
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

Contract = Mapping[str, Any] | None


def kind_of(contract: Contract) -> str:
    """Kind of a contract; no contract is free text."""
    return str(contract["kind"]) if contract else "text"


def canonical(text: str, contract: Contract) -> str:
    """The form in which two answers that say the same are the same text.

    Labels: case and spacing. Tags: a sorted set. JSON: sorted keys, ``1.0`` is ``1``; what does not
    parse stays as it is. Texts: spacing.
    """
    kind = kind_of(contract)
    squeezed = " ".join(text.split())
    if kind == "label":
        return squeezed.casefold()
    if kind == "tags":
        return ", ".join(sorted(_tags(text)))
    if kind == "json":
        parsed = _parsed(text)
        return squeezed if parsed is None else parsed
    return squeezed


def agrees(a: str, b: str, contract: Contract) -> bool:
    """Whether two answers say the same.

    For texts this is lexical: ROUGE-L F1 of at least 0.8, and neither has a number, id or address
    that the other lacks (one wrong order number in seven words would pass ROUGE-L).
    """
    kind = kind_of(contract)
    if kind == "json":
        parsed = _parsed(a)
        return parsed is not None and parsed == _parsed(b)
    if kind in ("label", "tags"):
        return canonical(a, contract) == canonical(b, contract)
    same_facts = not unsupported_facts(a, b) and not unsupported_facts(b, a)
    return same_facts and rouge_l(a, b) >= LEXICAL


def _tags(text: str) -> set[str]:
    tags = {" ".join(tag.split()).casefold() for tag in text.split(",")}
    return tags - {"", "none"}


def _parsed(text: str) -> str | None:
    try:
        return json.dumps(json.loads(text, parse_float=_number), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 over lower-case words (Lin 2004), without stemming. Two empty texts are equal."""
    first, second = (re.findall(r"\w+", text.lower()) for text in (a, b))
    if not first or not second:
        return float(a.split() == b.split())
    return 2 * _common(first, second) / (len(first) + len(second))


def _common(first: list[str], second: list[str]) -> int:
    """Length of the longest common subsequence, a row of its table in one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()


def evaluate(
    server: StudentServer,
    model: str,
    traces: pd.DataFrame,
    *,
    checkpoint_id: str,
    max_tokens: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Answer the requests of frontier traces with the student.

    Args:
        server: serves the student.
        model: the adapter's name there, or ``base``.
        traces: rows to answer, as `store.queries.read_traces` gives them.
        checkpoint_id: who answers.
        max_tokens: of an answer.
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
        answers = answer_all(
            server, model, list(traces["messages"]), max_tokens=max_tokens, on_progress=on_progress
        )
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


def contract_validity(answers: pd.DataFrame, traces: pd.DataFrame) -> pd.Series:
    """Whether each answer keeps the contract of its request. Aligned with ``answers``, bool."""
    asked = traces.set_index("prompt_id")[["contract", "messages"]].to_dict("index")
    return pd.Series(
        [
            not check_contract(output, asked[key]["contract"], _asked(asked[key]["messages"]))
            for key, output in zip(answers["prompt_id"], answers["output"], strict=True)
        ],
        index=answers.index,
        dtype=bool,
    )


def _asked(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(str(m["content"]) for m in messages if m.get("role") != "system")


def exact_interval(good: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a share; (0, 1) without rows."""
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, good, n - good + 1)) if good else 0.0
    high = float(beta.ppf(1 - tail, good + 1, n - good)) if good < n else 1.0
    return low, high


def summarise(answers: pd.DataFrame, traces: pd.DataFrame) -> dict[str, Any]:
    """Every figure of an evaluation, ready for JSON: overall, and under ``tasks`` by task.

    Args:
        answers: what `evaluate` returned, any number of splits.
        traces: the same requests; a column ``reference`` (a human's edit, else the frontier's
            answer), if there, gives quality as well.

    Returns:
        ``n``, ``measure`` (what agreement means here), ``agreement`` with its exact 95% interval,
        ``validity``, ``quality``, ``tags_micro_f1`` and ``rouge_l`` where they apply, ``ece`` and
        ``auroc`` of exp(logprob_sum) as the probability of agreement, latency percentiles (ms,
        with `evaluate`'s load on the server) and token counts. None: cannot be told.
    """
    known = [c for c in ("prompt_id", "task", "contract", "reference") if c in traces.columns]
    rows = answers.merge(traces[known], on="prompt_id", how="left", validate="many_to_one")
    rows["valid"] = contract_validity(answers, traces).to_numpy()
    tasks = rows["task"].fillna("(no task)") if "task" in rows else pd.Series("", rows.index)
    return _summary(rows) | {
        "tasks": {str(task): _summary(part) for task, part in rows.groupby(tasks, sort=True)}
    }


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    n, good = len(rows), int(rows["agrees"].sum())
    low, high = exact_interval(good, n)
    kinds = rows["contract"].map(kind_of)
    confidence = np.exp(rows["logprob_sum"].to_numpy(float))
    right = rows["agrees"].to_numpy(bool)
    return {
        "n": n,
        "measure": _measure(kinds),
        "agreement": good / n if n else None,
        "agreement_low": low,
        "agreement_high": high,
        "validity": float(rows["valid"].mean()) if n else None,
        "quality": _quality(rows),
        "tags_micro_f1": micro_f1(rows[kinds == "tags"]),
        "rouge_l": _mean_rouge(rows[kinds == "text"]),
        "ece": expected_calibration_error(confidence, right) if n else None,
        "auroc": float(roc_auc_score(right, confidence)) if 0 < good < n else None,
        "latency_ms": {f"p{q}": _percentile(rows["latency_ms"], q) for q in (50, 95, 99)},
        "tokens_in": int(rows["tokens_in"].sum()),
        "tokens_out": int(rows["tokens_out"].sum()),
        "too_long": int((rows["finish_reason"] == "too_long").sum()),
        "cut_short": int((rows["finish_reason"] == "length").sum()),
    }


def _measure(kinds: pd.Series) -> str:
    lexical = set((kinds == "text").tolist())
    return "; ".join(MEASURES[is_lexical] for is_lexical in sorted(lexical))


def _quality(rows: pd.DataFrame) -> float | None:
    """Share of answers that say the same as the reference."""
    if "reference" not in rows or not len(rows):
        return None
    same = [
        agrees(output, reference, contract)
        for output, reference, contract in zip(
            rows["output"], rows["reference"], rows["contract"], strict=True
        )
        if isinstance(reference, str)
    ]
    return float(np.mean(same)) if same else None


def micro_f1(rows: pd.DataFrame) -> float | None:
    """F1 over single tags of all rows, against the frontier's. None without a tag."""
    pairs = [
        (_tags(output), _tags(wanted))
        for output, wanted in zip(rows["output"], rows["frontier_output"], strict=True)
    ]
    total = sum(len(a) + len(b) for a, b in pairs)
    return 2 * sum(len(a & b) for a, b in pairs) / total if total else None


def _mean_rouge(rows: pd.DataFrame) -> float | None:
    scores = [rouge_l(a, b) for a, b in zip(rows["output"], rows["frontier_output"], strict=True)]
    return float(np.mean(scores)) if scores else None


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Mean distance between confidence and share right, over bins of equal width on [0, 1]."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def _percentile(values: pd.Series, q: int) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None
