"""A hallucination flag on every answer: its contract decides where it can, its wording elsewhere.

Labels, tags and JSON have no other truth than their contract (T0). Texts are also held against the
words of their request and context (T1). Where there is nothing to hold an answer against the flag
says ``cannot_tell``, never "not hallucinated".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.labels.hallucination import lexical
from loop_pipeline.labels.hallucination.contract import UnsupportedContract, check_contract
from loop_pipeline.store.tables import HallucinationFlagRow

VERSION = "contract-1 lexical-1"
COLUMNS = [column.name for column in HallucinationFlagRow.__table__.columns]
FREE_TEXT = {"kind": "text"}
UNKNOWN_SCORE = 0.5


def flag_hallucinations(
    traces: pd.DataFrame, *, form_of: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Hold every answer against its contract and its source.

    Args:
        traces: columns of ``TraceRow`` plus ``contract`` (dict or None). The common form of the
            answers to a template is learned from these rows, so hand in a whole day.
        form_of: rows to learn that form from instead, when only a few answers are to be flagged.

    Returns:
        One row per trace with the columns of ``HallucinationFlagRow``. ``grounded`` is yes, no or
        cannot_tell; ``score`` is P(hallucinated), 0.5 where nothing can be told.
    """
    rows, worded = [], []
    columns = ["prompt_id", "day", "messages", "context", "contract", "output", "finish_reason"]
    for prompt_id, day, messages, context, contract, output, finish in zip(
        *(traces[name] for name in columns), strict=True
    ):
        contract = contract if isinstance(contract, dict) else None
        context = context if isinstance(context, str) and context else None
        if contract is None and context:
            contract = FREE_TEXT
        verdict = _by_contract(output, contract, request_text(messages, context), finish)
        if verdict is None:
            worded.append(len(rows))
            verdict = {}
        rows.append({"prompt_id": prompt_id, "day": day, "version": VERSION} | verdict)
    for place, verdict in zip(worded, _by_wording(traces.iloc[worded], form_of), strict=True):
        rows[place] |= verdict
    return pd.DataFrame(rows, columns=COLUMNS)


def request_text(messages: Sequence[Mapping[str, Any]], context: str | None) -> str:
    """Everything an answer may rest on: all messages, whatever their role, and the context."""
    parts: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):  # text parts beside images and the like
            parts += [str(part.get("text", "")) for part in content if isinstance(part, dict)]
        elif content is not None:
            parts.append(str(content))
    return "\n".join([*parts, context] if context else parts)


def _by_contract(
    output: str, contract: dict[str, Any] | None, source: str, finish: Any
) -> dict[str, Any] | None:
    """T0; None if the answer is a text that keeps its contract."""
    if contract is None:
        return _cannot_tell("T1", "free text without contract or context")
    try:
        reasons = check_contract(output, contract, source)
    except UnsupportedContract as error:
        return _cannot_tell("T0", str(error))
    if finish == "length":
        reasons.append("cut off at the token limit")
    if reasons:
        return _verdict("no", 1.0, "T0", reasons)
    if contract["kind"] == "text":
        return None
    return _verdict("yes", 0.0, "T0", [])


def _by_wording(texts: pd.DataFrame, form_of: pd.DataFrame | None) -> list[dict[str, Any]]:
    """T1 for texts that T0 let pass. With a context, that is the source; else the request is."""
    if texts.empty:
        return []
    forms = texts if form_of is None else form_of
    forms = forms[forms["template_hash"].isin(texts["template_hash"])]
    usual = {
        template: lexical.usual_stems(list(outputs))
        for template, outputs in forms.groupby("template_hash")["output"]
    }
    known = [usual.get(template, frozenset()) for template in texts["template_hash"]]
    sources = [
        context if isinstance(context, str) and context else request_text(messages, None)
        for context, messages in zip(texts["context"], texts["messages"], strict=True)
    ]
    outputs = list(texts["output"])
    score = lexical.risk(
        np.array([lexical.features(*row) for row in zip(outputs, sources, known, strict=True)])
    )
    verdicts = []
    for row, value in zip(zip(outputs, sources, known, strict=True), score, strict=True):
        flagged = value >= lexical.FLAG_FROM
        novel = lexical.novel_words(*row)[:8] if flagged else []
        reasons = [f"words the source does not hold: {json.dumps(novel)[1:-1]}"] if flagged else []
        verdicts.append(_verdict("no" if flagged else "yes", float(value), "T1", reasons))
    return verdicts


def _cannot_tell(tier: str, reason: str) -> dict[str, Any]:
    return _verdict("cannot_tell", UNKNOWN_SCORE, tier, [reason])


def _verdict(grounded: str, score: float, tier: str, reasons: list[str]) -> dict[str, Any]:
    flag = grounded == "no"
    return {"grounded": grounded, "score": score, "flag": flag, "tier": tier, "reasons": reasons}
