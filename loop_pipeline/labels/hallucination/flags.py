"""A hallucination flag on every answer, by the first tier that can tell.

Not here: one answer alone (``answer_check.py``); the tiers themselves, which have files of their
own.

Labels, tags and JSON have no other truth than their contract (T0). Texts are also held against the
words of their request and context (T1), and where those leave it open against a local encoder, if
there is one (T2). Where there is nothing to hold an answer against the flag says ``cannot_tell``,
never "not hallucinated".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from loop_pipeline.labels.hallucination.answer_check import (
    NEEDED,
    Text,
    by_contract,
    by_wording,
    completed,
    source_of_trace,
)
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_features import usual_stems
from loop_pipeline.store.tables import HallucinationFlagRow

COLUMNS = [column.name for column in HallucinationFlagRow.__table__.columns]


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
    verdicts: list[dict[str, Any] | None] = [by_contract(trace) for trace in given]
    worded = [i for i, verdict in enumerate(verdicts) if verdict is None]
    texts = free_texts([given[i] for i in worded], form_of)
    templates = [given[i]["template_hash"] for i in worded]
    for place, verdict in zip(worded, by_wording(texts, templates, tiers), strict=True):
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


def worded_traces(traces: pd.DataFrame) -> list[dict[str, Any]]:
    """Traces whose answer is a text that keeps its contract and has something to rest on."""
    return [trace for trace in _needed(traces) if by_contract(trace) is None]


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
    return [Text(t["output"], source_of_trace(t), usual[t["template_hash"]]) for t in traces]


def _needed(traces: pd.DataFrame) -> list[dict[str, Any]]:
    nothing = [None] * len(traces)
    columns = (traces.get(name, nothing) for name in NEEDED)
    return [completed(dict(zip(NEEDED, row, strict=True))) for row in zip(*columns, strict=True)]
