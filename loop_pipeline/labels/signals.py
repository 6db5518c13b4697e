"""What is known about each answer: reactions, edits, validity, grounding, confidence, length.

Not here: reviews, which are what a score is fitted to (``reviews``).

``trace_signals`` are the named columns people see, in which a null means "not known";
``features`` are the same facts as the numbers that the quality score weighs. Reviewers' verdicts
stand beside the signals and never among the features: they are what the score is fitted to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.store.tables import TraceSignalRow

VERSION = "signals-2"
COLUMNS = [column.name for column in TraceSignalRow.__table__.columns]
ACTIONS = ("accepted", "modified", "rejected")
THUMBS = {"thumb_up": 1.0, "thumb_down": 0.0}
# Somebody who asks nearly the same again within this time was not served by the answer.
REASK_MINUTES = 30
REASK_OVERLAP = 0.6
LONG_TAILED = ("dwell_s", "latency_ms")
MEASURED = ("rating", "judge", "grounding", "logprob_min", "logprob_p10", *LONG_TAILED)
# Beyond this many characters edits are counted in words: the cost is quadratic.
LONG = 2000


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
    frame["words"] = known["output"].str.count(r"\S+").astype(int)
    frame["latency_ms"] = pd.to_numeric(known["latency_ms"])
    frame["version"] = VERSION
    return frame.reset_index()[COLUMNS]


def features(signals: pd.DataFrame) -> pd.DataFrame:
    """The signals as floats for the quality score: a missing value is a column of its own.

    Args:
        signals: columns of ``TraceSignalRow``.

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
    return pd.DataFrame(columns, index=rows.index).astype(float)


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
    """Minutes until the same person asked nearly the same again; only where that happened."""
    names = ["prompt_id", "ts", "conversation_id", "user_hash", "template_hash", "messages"]
    rows = pd.concat([traces[names], later[names]] if later is not None else [traces[names]])
    who = rows["conversation_id"].astype(object)
    rows["ts"] = pd.to_datetime(rows["ts"], utc=True)
    rows["who"] = who.where(who.notna(), rows["user_hash"])
    rows = rows[rows["who"].notna()].sort_values("ts", kind="stable")
    by_person = rows.groupby(["who", "template_hash"], sort=False)
    following = by_person[["ts", "messages"]].shift(-1)
    minutes = (following["ts"] - rows["ts"]).dt.total_seconds() / 60
    soon = (minutes <= REASK_MINUTES).to_numpy()
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


def _overlap(asked: list[Any], again: list[Any]) -> float:
    """Jaccard similarity of the words of two requests' last turns."""
    a, b = ({*str(messages[-1].get("content")).casefold().split()} for messages in (asked, again))
    return len(a & b) / max(len(a | b), 1)


def number(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats; nothing is known where the frame has no such column."""
    return _float(frame[name]) if name in frame else pd.Series(np.nan, index=frame.index)


def _float(values: pd.Series) -> pd.Series:
    return pd.to_numeric(values, errors="coerce").astype(float)


def edit_distance(before: str, after: str) -> float:
    """Levenshtein distance over the longer length: 0 unchanged, 1 nothing kept.

    Characters, or words where a text is longer than ``LONG`` characters.
    """
    if before == after:
        return 0.0
    long = max(len(before), len(after)) > LONG
    a, b = (before.split(), after.split()) if long else (list(before), list(after))
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
