"""A hallucination flag on every answer, by the first tier that can tell.

Not here: one answer alone (``answer_check.py``); the tiers themselves, which have files of their
own.

Labels, tags and JSON have no other truth than their contract (T0). Texts are also held against the
words of their request and context, as far as the answers to their template are told by words (T1),
and where that leaves it open against a local encoder, if there is one (T2). Where there is nothing
to hold an answer against the flag says ``cannot_tell``, never "not hallucinated".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from loop_pipeline.labels.hallucination.answer_check import (
    NEEDED,
    by_contract,
    by_wording,
    completed,
    source_of_trace,
    text_of,
)
from loop_pipeline.labels.hallucination.habits.wording_habit import (
    UNKNOWN,
    Habit,
    Said,
    learn_habits,
)
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.store.tables import HallucinationFlagRow

COLUMNS = [column.name for column in HallucinationFlagRow.__table__.columns]


def flag_hallucinations(
    traces: pd.DataFrame,
    *,
    tiers: Tiers,
    form_of: pd.DataFrame | None = None,
    habits: Mapping[str, Habit] | None = None,
) -> pd.DataFrame:
    """Hold every answer against its contract and its source.

    Args:
        traces: columns of ``TraceRow`` plus ``contract`` (dict or None). How the answers to a
            template use words is learned from these rows, so hand in a whole day.
        tiers: who looks at texts.
        form_of: rows to learn that from instead, when only a few answers are to be flagged.
        habits: what was learned before, by template hash; nothing is learned then.

    Returns:
        One row per trace with the columns of ``HallucinationFlagRow``. ``grounded`` is yes, no or
        cannot_tell; ``score`` is P(hallucinated) at even odds. Where nothing can be told it is
        1 - exp(p10) of the answer's token log-probabilities (``logprobs``: ``p10``, else ``min``,
        never the mean), or 0.5 where there are none. ``spans``: start, end, text and why of the
        places in a flagged text, in characters. ``version`` names rules, weights and, for texts,
        the habit.
    """
    given = _needed(traces)
    verdicts: list[dict[str, Any] | None] = [by_contract(trace) for trace in given]
    worded = [i for i, verdict in enumerate(verdicts) if verdict is None]
    if habits is None:
        habits = habits_of(text_traces(traces if form_of is None else form_of), tiers)
    templates = [given[i]["template_hash"] for i in worded]
    known = {template: habits.get(template, UNKNOWN) for template in templates}
    named = {template: f" habit-{habit.version}" for template, habit in known.items()}
    versions = [tiers.version] * len(given)
    for place, template in zip(worded, templates, strict=True):
        versions[place] += named[template]
    texts = [text_of(given[i], known[t]) for i, t in zip(worded, templates, strict=True)]
    for place, verdict in zip(worded, by_wording(texts, templates, tiers), strict=True):
        verdicts[place] = verdict
    rows = [
        {
            "prompt_id": trace["prompt_id"],
            "day": trace["day"],
            "version": version,
            **(verdict or {}),
        }
        for trace, verdict, version in zip(given, verdicts, versions, strict=True)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def worded_traces(traces: pd.DataFrame) -> list[dict[str, Any]]:
    """Traces whose answer is a text that keeps its contract and has something to rest on."""
    return [trace for trace in _needed(traces) if by_contract(trace) is None]


def text_traces(traces: pd.DataFrame) -> list[dict[str, Any]]:
    """Traces whose answer is a text, also those that T0 finds wrong: their words stray as well."""
    texts = (t for t in _needed(traces) if (t["contract"] or {}).get("kind") == "text")
    return [trace for trace in texts if trace["output"].strip()]


def habits_of(traces: Sequence[Mapping[str, Any]], tiers: Tiers) -> dict[str, Habit]:
    """How the answers to each template use words.

    Args:
        traces: as ``text_traces`` gives them.
        tiers: whose detector the answers are scored by.
    """
    said = [(t["template_hash"], Said(t["output"], source_of_trace(t))) for t in traces]
    return learn_habits(said, tiers.detector)


def _needed(traces: pd.DataFrame) -> list[dict[str, Any]]:
    nothing = [None] * len(traces)
    columns = (traces.get(name, nothing) for name in NEEDED)
    return [completed(dict(zip(NEEDED, row, strict=True))) for row in zip(*columns, strict=True)]
