"""Holds one answer against its contract and its source, while somebody waits for it.

Not here: frames of answers (``flags.py``), so that the gateway needs no pandas; and the tiers
themselves, which have files of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loop_pipeline.answers.contract import SLIP, hold
from loop_pipeline.answers.facts import fact_spans, spans_of
from loop_pipeline.answers.json_schema import UnsupportedContract
from loop_pipeline.answers.said import CUT_OFF, no_target, said, was_cut
from loop_pipeline.answers.schemas.bounded_schema import short
from loop_pipeline.labels.hallucination.habits.wording_habit import STRICT, UNKNOWN, Habit
from loop_pipeline.labels.hallucination.tiers import UNCERTAIN, Tiers, ask_encoder
from loop_pipeline.labels.hallucination.wording_features import design_of, novel_words
from loop_pipeline.labels.hallucination.wording_score import FLAG_FROM
from loop_pipeline.traces.messages import SYSTEM_ROLES, source_text

FREE_TEXT = {"kind": "text"}
UNKNOWN_SCORE = 0.5
SHOWN = 8
NO_LINE = "it is worded freely; in such answers words do not tell rewording from inventing"
NO_SKILL = "the answers to its template do not follow the words of their sources"
NEEDED = ("prompt_id", "day", "messages", "context", "contract", "output", "finish_reason")
NEEDED += ("template_hash", "logprobs")


class Text(NamedTuple):
    """A text, what it may rest on, and how such answers use words."""

    output: str
    source: str
    habit: Habit
    logprobs: Any = None


def check_answer(
    trace: Mapping[str, Any],
    *,
    habit: Habit = UNKNOWN,
    tiers: Tiers,
    wording: bool = True,
) -> dict[str, Any]:
    """One answer while somebody waits: the same verdict without the frame.

    Args:
        trace: as a row of the frame.
        habit: of the answers to its template, see ``learn_habits``.
        tiers: who looks at texts.
        wording: False: texts are held against their contract only, nobody looks at their words.
    """
    known = completed(trace)
    verdict = by_contract(known)
    if verdict is None and not wording:
        return _cannot_tell("T0", "its words are not looked at", known)
    if verdict is None:
        text = text_of(known, habit)
        [verdict] = by_wording([text], [known["template_hash"]], tiers)
    return verdict


def source_of_trace(trace: Mapping[str, Any]) -> str:
    """What the words of an answer have to rest on.

    With a context that, and what was asked and said beside it, but not the instructions.
    """
    if not trace["context"]:
        return source_text(trace["messages"])
    asked = [turn for turn in trace["messages"] if turn.get("role") not in SYSTEM_ROLES]
    return source_text(asked, trace["context"])


def text_of(trace: Mapping[str, Any], habit: Habit) -> Text:
    """What T1 looks at."""
    return Text(trace["output"], source_of_trace(trace), habit, trace.get("logprobs"))


def completed(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace in order: what is missing is None; with a context only, the contract is a text's."""
    context, contract = trace.get("context"), trace.get("contract")
    context = context if isinstance(context, str) and context else None
    if not isinstance(contract, dict):
        contract = FREE_TEXT if context else None
    output = said(str(trace.get("output") or ""))
    known = {"context": context, "contract": contract, "output": output}
    return {n: trace.get(n) for n in NEEDED} | known


def by_contract(trace: Mapping[str, Any]) -> dict[str, Any] | None:
    """T0; None if the answer is a text that keeps its contract."""
    output, contract = trace["output"], trace["contract"]
    if contract is None:
        if why := no_target(output, trace["finish_reason"]):
            return _finding("no", 1.0, "T0", [why])
        return _cannot_tell("T1", "free text without contract or context", trace)
    source = source_text(trace["messages"], trace["context"])
    try:
        reasons, form = hold(output, contract, source)
    except UnsupportedContract as error:
        return _cannot_tell("T0", str(error), trace)
    if was_cut(trace["finish_reason"]):
        reasons.append(CUT_OFF)
    text = contract["kind"] == "text"
    if reasons:
        facts = fact_spans(output, source) if text else []
        return _finding("no", 1.0, "T0", reasons, spans_of(output, facts, "not in the request"))
    # Nothing is made up in a label with a full stop: told apart by its reason, and no flag.
    slip = [] if form is None else [f"{SLIP}: it means {short(form)}"]
    return None if text else _finding("yes", 0.0, "T0", slip)


def by_wording(
    texts: Sequence[Text], templates: Sequence[str], tiers: Tiers
) -> list[dict[str, Any]]:
    """T1 for texts that T0 let pass, and T2 where T1 is not sure."""
    if not texts:
        return []
    design = design_of([(text.output, text.source, text.habit.form) for text in texts])
    scores = tiers.detector.risk(design, templates)
    verdicts = [
        # Reviews of a template have fitted its line: they say more than its habit.
        _worded(text, float(score), STRICT.told if tiers.detector.reviewed(name) else None)
        for text, name, score in zip(texts, templates, scores, strict=True)
    ]
    if tiers.encoder is None:
        return verdicts
    open_rows = [
        {"id": i, "source": texts[i].source, "output": texts[i].output}
        for i, score in enumerate(scores)
        if verdicts[i]["grounded"] == "cannot_tell" or UNCERTAIN[0] <= score <= UNCERTAIN[1]
    ]
    for i, opinion in ask_encoder(open_rows, tiers.encoder, tiers.python).items():
        verdicts[i] = _encoded(opinion, tiers.encoder.name, verdicts[i])
    return verdicts


def _worded(text: Text, score: float, told: str | None = None) -> dict[str, Any]:
    told = told or text.habit.told
    if told == "nothing":
        return _cannot_tell("T1", NO_SKILL, {"logprobs": text.logprobs})
    if score < FLAG_FROM:
        return _finding("yes", score, "T1")
    if told == "source" and not text.habit.unrelated(text.output, text.source):
        return _cannot_tell("T1", NO_LINE, {"logprobs": text.logprobs})
    known_form = text.habit.form
    novel = spans_of(
        text.output,
        novel_words(text.output, text.source, known_form),
        "words the source does not hold",
    )
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
