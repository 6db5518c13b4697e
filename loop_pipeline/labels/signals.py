"""What is known about each answer: reactions, edits, validity, grounding, confidence, length.

Not here: reviews, which are what a score is fitted to (``reviews``).

``trace_signals`` are the named columns people see, in which a null means "not known";
``features`` are the same facts as the numbers that the quality score weighs. Reviewers' verdicts
stand beside the signals and never among the features: they are what the score is fitted to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.answers.words import count_words, words
from loop_pipeline.store.tables import TraceSignalRow
from loop_pipeline.traces.messages import content_text

VERSION = "signals-3"
COLUMNS = [column.name for column in TraceSignalRow.__table__.columns]
ACTIONS = ("accepted", "modified", "rejected")
THUMBS = {"thumb_up": 1.0, "thumb_down": 0.0}
# Somebody who asks nearly the same again within this time was not served by the answer.
REASK_MINUTES = 30
REASK_OVERLAP = 0.6
# Nobody reads an answer and types the next request in less: that was a program.
REASK_LEAST_S = 2
LONG_TAILED = ("dwell_s", "latency_ms")
MEASURED = ("rating", "judge", "grounding", "logprob_min", "logprob_p10", *LONG_TAILED)
# Longer edits are counted in words, or in what stands between two commas: the cost is quadratic.
LONG = 2000
WORD = re.compile(r"[^\s，。；：、！？]+[，。；：、！？]*")


def trace_signals(
    traces: pd.DataFrame,
    feedback: pd.DataFrame,
    flags: pd.DataFrame,
    verdicts: pd.DataFrame | None = None,
    *,
    later: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Signals of each trace, one typed column each. Null means "not known", never "no".

    Of several reactions of one kind the newest counts; ratings, judges' scores and dwell times are
    averaged.

    Args:
        traces: columns of ``TraceRow`` plus ``contract``.
        feedback: columns of ``FeedbackRow``; rows of other traces are ignored.
        flags: columns of ``HallucinationFlagRow``, one row a trace.
        verdicts: columns p_good and reviews by prompt_id, as ``reviews.reviewers`` gives them.
        later: traces that came after these, where a request may have been asked again.

    Returns:
        Columns of ``TraceSignalRow``, in the order of ``traces``.

    Raises:
        ValueError: a trace has no flag; names the first.
    """
    index = pd.Index(traces["prompt_id"], name="prompt_id")
    flags = flags.set_index("prompt_id")
    if len(missing := index.difference(flags.index)):
        raise ValueError(f"{len(missing)} traces have no flag, first {missing[0]}: flag them first")
    flags = flags.loc[index]
    known = traces.set_index("prompt_id")
    frame = _reactions(known["output"], feedback)
    frame["day"] = known["day"]
    frame["reasked_minutes"] = _reasked(traces, later).reindex(index)
    judged = verdicts.reindex(index) if verdicts is not None else pd.DataFrame(index=index)
    frame["reviews"] = number(judged, "reviews").fillna(0).astype(int)
    frame["review_good"] = number(judged, "p_good")
    contract = pd.Series([isinstance(c, dict) for c in traces["contract"]], index=index)
    broken = (flags["tier"] == "T0") & (flags["grounded"] == "no")
    unchecked = (flags["tier"] == "T0") & (flags["grounded"] == "cannot_tell")
    frame["contract_valid"] = (~broken).astype(object).where(contract & ~unchecked, None)
    text = np.array([not isinstance(c, dict) or c["kind"] == "text" for c in traces["contract"]])
    told = (flags["grounded"] != "cannot_tell") & text
    frame["grounding"] = (1 - flags["score"].astype(float)).where(told)
    for name in ("min", "p10"):
        values = [p.get(name) if isinstance(p, dict) else None for p in traces["logprobs"]]
        frame[f"logprob_{name}"] = pd.Series(values, index=index, dtype=float)
    frame["words"] = known["output"].map(count_words).astype(int)
    frame["latency_ms"] = pd.to_numeric(known["latency_ms"])
    frame["version"] = VERSION
    return frame.reset_index()[COLUMNS]


def features(signals: pd.DataFrame, judges: pd.DataFrame | None = None) -> pd.DataFrame:
    """The signals as floats for the quality score: a missing value is a column of its own.

    Args:
        signals: columns of ``TraceSignalRow``.
        judges: of ``judges.judge_features``; None: their mean, for scores fitted before that.

    Returns:
        Floats by prompt_id; null where a measured value is not known. A request that was asked
        again counts the more the sooner.
    """
    rows = signals.set_index("prompt_id")
    columns: dict[str, Any] = {action: rows["action"] == action for action in ACTIONS}
    columns["no_action"] = rows["action"].isna()
    columns["edit_distance"] = _float(rows["edit_distance"]).fillna(0)
    thumb = _float(rows["thumb"])
    columns |= {"thumb_up": thumb > 0.5, "thumb_down": thumb < 0.5}
    for name in ("regenerated", "copied"):
        columns[name] = _float(rows[name]).fillna(0)
    minutes = _float(rows["reasked_minutes"])
    columns["reasked"] = (1 - minutes / (2 * REASK_MINUTES)).fillna(0)
    valid = _float(rows["contract_valid"])
    columns |= {"contract_broken": valid == 0, "no_contract": valid.isna()}
    for name in MEASURED:
        values = _float(rows[name])
        values = values.map(np.log1p) if name in LONG_TAILED else values
        columns |= {name: values, f"{name}_missing": values.isna()}
    columns["log_words"] = np.log1p(rows["words"].astype(float))
    known = pd.DataFrame(columns, index=rows.index).astype(float)
    return known if judges is None else known.drop(columns=["judge", "judge_missing"]).join(judges)


def tasks(traces: pd.DataFrame) -> pd.Series:
    """What kind of request a trace is, by prompt_id: its task, or else its prompt template."""
    named = traces["task"].astype(object)
    names = named.where(named.notna(), "template " + traces["template_hash"].astype(str))
    return pd.Series(names.to_numpy(), index=pd.Index(traces["prompt_id"], name="prompt_id"))


def _reactions(outputs: pd.Series, feedback: pd.DataFrame) -> pd.DataFrame:
    """What users and judges said, one row a trace; reviews are left out."""
    known = feedback[feedback["prompt_id"].isin(outputs.index) & (feedback["kind"] != "review")]
    known = known.sort_values("ts", kind="stable")
    frame = pd.DataFrame(index=outputs.index)
    acted = known[known["kind"].isin(ACTIONS)].groupby("prompt_id").last()
    action = acted["kind"].reindex(outputs.index).astype(object)
    frame["action"] = action.where(action.notna(), None)
    frame["edit_distance"] = _edits(outputs, acted[acted["kind"] == "modified"])
    thumbs = known[known["kind"].isin(THUMBS)].groupby("prompt_id")["kind"].last().map(THUMBS)
    frame["thumb"] = thumbs.reindex(outputs.index).astype(float)
    for name, kind in {"rating": "rating", "dwell_s": "dwell", "judge": "judge"}.items():
        values = known[known["kind"] == kind].groupby("prompt_id")["value"].mean()
        frame[name] = values.reindex(outputs.index).astype(float)
    for kind in ("regenerated", "copied"):
        seen = frame.index.isin(known.loc[known["kind"] == kind, "prompt_id"])
        # A user who reacted in another way could have done this as well, and did not.
        reacted = frame.index.isin(known["prompt_id"])
        frame[kind] = pd.Series(seen, index=frame.index).astype(object).where(reacted, None)
    return frame


def _edits(outputs: pd.Series, edits: pd.DataFrame) -> pd.Series:
    distance = {
        prompt_id: edit_distance(outputs[prompt_id], str(edited))
        for prompt_id, edited in zip(edits.index, edits["edited_output"], strict=True)
    }
    return pd.Series(distance, dtype=float).reindex(outputs.index)


def _reasked(traces: pd.DataFrame, later: pd.DataFrame | None) -> pd.Series:
    """Minutes until the same person asked nearly the same again; only where that happened.

    The steps of one agent's run also follow each other and hold the same request; but their last
    turn is what a tool gave back, and nobody asked.
    """
    names = ["prompt_id", "ts", "conversation_id", "user_hash", "template_hash", "messages"]
    rows = pd.concat([traces[names], later[names]] if later is not None else [traces[names]])
    who = rows["conversation_id"].astype(object)
    rows["ts"] = pd.to_datetime(rows["ts"], utc=True)
    rows["who"] = who.where(who.notna(), rows["user_hash"])
    rows = rows[rows["who"].notna()].sort_values("ts", kind="stable")
    by_person = rows.groupby(["who", "template_hash"], sort=False)
    following = by_person[["ts", "messages"]].shift(-1)
    minutes = (following["ts"] - rows["ts"]).dt.total_seconds() / 60
    soon = ((minutes <= REASK_MINUTES) & (minutes * 60 >= REASK_LEAST_S)).to_numpy()
    found = {
        prompt_id: gap
        for prompt_id, gap, asked, again in zip(
            rows["prompt_id"][soon],
            minutes[soon],
            rows["messages"][soon],
            following["messages"][soon],
            strict=True,
        )
        if _overlap(asked, again) >= REASK_OVERLAP
    }
    return pd.Series(found, dtype=float)


def _overlap(asked: Sequence[Any], again: Sequence[Any]) -> float:
    """Jaccard similarity of what people asked last; 0 if nobody asked again."""
    if (new := _question(again)) is None or not new[1]:
        return 0.0
    old = _question(asked)
    a, b = ({*words(old[0])} if old else set(), {*words(new[0])})
    return len(a & b) / max(len(a | b), 1)


def _question(messages: Sequence[Any]) -> tuple[str, bool] | None:
    """What a person said last, and whether nothing but a begun answer follows; None: nothing."""
    last = True
    for message in reversed(messages):
        if message.get("role") == "user" and (text := _said(message.get("content"))) is not None:
            return text, last
        # A begun answer, which a model goes on with, is no step; a tool that was called is.
        begun = message.get("role") == "assistant" and not message.get("tool_calls")
        last = last and begun and _said(message.get("content")) is not None
    return None


def _said(content: Any) -> str | None:
    """What a turn says; None for what a tool gave back or was asked, and for nothing."""
    if not isinstance(content, list):
        return None if content is None else str(content)
    kinds = {part.get("type") for part in content if isinstance(part, dict)}
    if kinds & {"tool_result", "tool_use", "tool-result", "tool-call", "function_call_output"}:
        return None
    return content_text(content) or str(content)


def number(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats; nothing is known where the frame has no such column."""
    return _float(frame[name]) if name in frame else pd.Series(np.nan, index=frame.index)


def _float(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def edit_distance(before: str, after: str) -> float:
    """Levenshtein distance over the longer length (words from ``LONG``): 0 same, 1 nothing kept."""
    if before == after:
        return 0.0
    long = max(len(before), len(after)) > LONG
    a, b = (WORD.findall(before), WORD.findall(after)) if long else (list(before), list(after))
    if not a or not b:
        return 1.0
    numbers = {token: i for i, token in enumerate({*a, *b})}
    target = np.array([numbers[token] for token in b])
    places = np.arange(len(b) + 1)
    row = places.copy()
    for i, token in enumerate(a, start=1):
        change = np.minimum(row[1:] + 1, row[:-1] + (target != numbers[token]))
        # Insertions run along the row: the best start so far plus the steps from there.
        row = np.minimum.accumulate(np.concatenate(([i], change)) - places) + places
    return float(row[-1] / max(len(a), len(b)))
