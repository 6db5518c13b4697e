"""A hallucination flag on every answer, by the first tier that can tell.

Not here: the tiers themselves, which have files of their own.

Labels, tags and JSON have no other truth than their contract (T0). Texts are also held against the
words of their request and context (T1), and where those leave it open against a local encoder, if
there is one (T2). Where there is nothing to hold an answer against the flag says ``cannot_tell``,
never "not hallucinated".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from loop_pipeline.answers.contract import UnsupportedContract, check_contract
from loop_pipeline.answers.facts import fact_spans, spans_of
from loop_pipeline.labels.hallucination.tiers import UNCERTAIN, Tiers, ask_encoder
from loop_pipeline.labels.hallucination.wording_features import design_of, novel_words, usual_stems
from loop_pipeline.labels.hallucination.wording_score import FLAG_FROM
from loop_pipeline.store.tables import HallucinationFlagRow

COLUMNS = [column.name for column in HallucinationFlagRow.__table__.columns]
FREE_TEXT = {"kind": "text"}
UNKNOWN_SCORE = 0.5
SHOWN = 8
NEEDED = ("prompt_id", "day", "messages", "context", "contract", "output", "finish_reason")
NEEDED += ("template_hash", "logprobs")


class Text(NamedTuple):
    """A text, what it may rest on, and the stems that are only its template's form."""

    output: str
    source: str
    usual: frozenset[str]


def flag_hallucinations(
    traces: pd.DataFrame, *, tiers: Tiers, form_of: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Hold every answer against its contract and its source.

    Args:
        traces: columns of ``TraceRow`` plus ``contract`` (dict or None). The common form of the
            answers to a template is learned from these rows, so hand in a whole day.
        tiers: who looks at texts.
        form_of: rows to learn that form from instead, when only a few answers are to be flagged.

    Returns:
        One row per trace with the columns of ``HallucinationFlagRow``. ``grounded`` is yes, no or
        cannot_tell; ``score`` is P(hallucinated) at even odds. Where nothing can be told it is
        1 - exp(p10) of the answer's token log-probabilities (``logprobs``: ``p10``, else ``min``,
        never the mean), or 0.5 where there are none. ``spans``: start, end, text and why of the
        places in a flagged text, in characters.
    """
    given = _needed(traces)
    verdicts: list[dict[str, Any] | None] = [_by_contract(trace) for trace in given]
    worded = [i for i, verdict in enumerate(verdicts) if verdict is None]
    texts = free_texts([given[i] for i in worded], form_of)
    templates = [given[i]["template_hash"] for i in worded]
    for place, verdict in zip(worded, _by_wording(texts, templates, tiers), strict=True):
        verdicts[place] = verdict
    version = tiers.version
    rows = [
        {
            "prompt_id": trace["prompt_id"],
            "day": trace["day"],
            "version": version,
            **(verdict or {}),
        }
        for trace, verdict in zip(given, verdicts, strict=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def check_answer(
    trace: Mapping[str, Any], *, usual: frozenset[str] = frozenset(), tiers: Tiers
) -> dict[str, Any]:
    """One answer while somebody waits: the same verdict without the frame.

    Args:
        trace: as a row of the frame.
        usual: stems that belong to the form of such answers, see ``usual_stems``.
        tiers: who looks at texts.
    """
    known = _completed(trace)
    verdict = _by_contract(known)
    if verdict is None:
        text = Text(known["output"], _source(known), usual)
        [verdict] = _by_wording([text], [known["template_hash"]], tiers)
    return verdict


def source_text(messages: Sequence[Mapping[str, Any]], context: str | None) -> str:
    """Everything an answer may rest on: all messages, whatever their role, and the context."""
    parts: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):  # text parts beside images and the like
            parts += [str(part.get("text", "")) for part in content if isinstance(part, dict)]
        elif content is not None:
            parts.append(str(content))
    return "\n".join([*parts, context] if context else parts)


def worded_traces(traces: pd.DataFrame) -> list[dict[str, Any]]:
    """Traces whose answer is a text that keeps its contract and has something to rest on."""
    return [trace for trace in _needed(traces) if _by_contract(trace) is None]


def free_texts(
    traces: Sequence[Mapping[str, Any]], form_of: pd.DataFrame | None = None
) -> list[Text]:
    """What T1 looks at. With a context, that is the source; else the request is.

    Args:
        traces: as ``worded_traces`` gives them.
        form_of: rows to learn the templates' common form from; None: these.
    """
    answers: dict[str, list[str]] = {trace["template_hash"]: [] for trace in traces}
    forms = [(t["template_hash"], t["output"]) for t in traces]
    if form_of is not None:
        forms = zip(form_of["template_hash"], form_of["output"], strict=True)
    for template, output in forms:
        if template in answers:
            answers[template].append(output)
    usual = {template: usual_stems(outputs) for template, outputs in answers.items()}
    return [Text(t["output"], _source(t), usual[t["template_hash"]]) for t in traces]


def _source(trace: Mapping[str, Any]) -> str:
    return trace["context"] or source_text(trace["messages"], None)


def _needed(traces: pd.DataFrame) -> list[dict[str, Any]]:
    nothing = [None] * len(traces)
    columns = (traces.get(name, nothing) for name in NEEDED)
    return [_completed(dict(zip(NEEDED, row, strict=True))) for row in zip(*columns, strict=True)]


def _completed(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace in order: what is missing is None; with a context only, the contract is a text's."""
    context, contract = trace.get("context"), trace.get("contract")
    context = context if isinstance(context, str) and context else None
    if not isinstance(contract, dict):
        contract = FREE_TEXT if context else None
    return {n: trace.get(n) for n in NEEDED} | {"context": context, "contract": contract}


def _by_contract(trace: Mapping[str, Any]) -> dict[str, Any] | None:
    """T0; None if the answer is a text that keeps its contract."""
    output, contract = trace["output"], trace["contract"]
    if contract is None:
        return _cannot_tell("T1", "free text without contract or context", trace)
    source = source_text(trace["messages"], trace["context"])
    try:
        reasons = check_contract(output, contract, source)
    except UnsupportedContract as error:
        return _cannot_tell("T0", str(error), trace)
    if trace["finish_reason"] == "length":
        reasons.append("cut off at the token limit")
    text = contract["kind"] == "text"
    if reasons:
        facts = fact_spans(output, source) if text else []
        return _finding("no", 1.0, "T0", reasons, spans_of(output, facts, "not in the request"))
    return None if text else _finding("yes", 0.0, "T0")


def _by_wording(
    texts: Sequence[Text], templates: Sequence[str], tiers: Tiers
) -> list[dict[str, Any]]:
    """T1 for texts that T0 let pass, and T2 where T1 is not sure."""
    if not texts:
        return []
    scores = tiers.detector.risk(design_of(texts), templates)
    verdicts = [_worded(text, float(score)) for text, score in zip(texts, scores, strict=True)]
    if tiers.encoder is None:
        return verdicts
    open_rows = [
        {"id": i, "source": texts[i].source, "output": texts[i].output}
        for i, score in enumerate(scores)
        if UNCERTAIN[0] <= score <= UNCERTAIN[1]
    ]
    for i, opinion in ask_encoder(open_rows, tiers.encoder, tiers.python).items():
        verdicts[i] = _encoded(opinion, tiers.encoder.name, verdicts[i])
    return verdicts


def _worded(text: Text, score: float) -> dict[str, Any]:
    if score < FLAG_FROM:
        return _finding("yes", score, "T1")
    novel = spans_of(text.output, novel_words(*text), "words the source does not hold")
    shown = json.dumps([span["text"] for span in novel[:SHOWN]], ensure_ascii=False)[1:-1]
    reason = f"words the source does not hold: {shown}" if novel else "its words come from afar"
    return _finding("no", score, "T1", [reason], novel)


def _encoded(opinion: Mapping[str, Any], name: str, worded: dict[str, Any]) -> dict[str, Any]:
    score = float(opinion["score"])
    if score < FLAG_FROM:
        return _finding("yes", score, "T2")
    spans = opinion["spans"] or worded.get("spans", [])
    return _finding("no", score, "T2", [f"the encoder {name} finds it unsupported"], spans)


def _cannot_tell(tier: str, reason: str, trace: Mapping[str, Any]) -> dict[str, Any]:
    return _finding("cannot_tell", _doubt(trace.get("logprobs")), tier, [reason])


def _doubt(logprobs: Any) -> float:
    """The chance that the model would not have said its least likely tenth of tokens.

    The mean tells nothing about a hallucination, its rare tokens do (RAGTruth: AUROC 0.53-0.58
    against 0.76-0.79 for the first hallucinated token).
    """
    known = logprobs if isinstance(logprobs, Mapping) else {}
    low = next((known[k] for k in ("p10", "min") if isinstance(known.get(k), int | float)), None)
    return UNKNOWN_SCORE if low is None or math.isnan(low) else -math.expm1(min(float(low), 0.0))


def _finding(
    grounded: str,
    score: float,
    tier: str,
    reasons: Sequence[str] = (),
    spans: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "grounded": grounded,
        "score": score,
        "flag": grounded == "no",
        "tier": tier,
        "reasons": list(reasons),
        "spans": list(spans),
    }
