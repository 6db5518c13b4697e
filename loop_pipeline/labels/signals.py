"""What is known about each answer, as numbers: reactions, edits, validity, grounding, length.

Reviewers' verdicts are not in here: they are what the quality score is fitted to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

ACTIONS = ("accepted", "modified", "rejected", "regenerated", "thumb_up", "thumb_down")
# Beyond this many characters edits are counted in words: the cost is quadratic.
LONG = 2000


def signals(traces: pd.DataFrame, feedback: pd.DataFrame, flags: pd.DataFrame) -> pd.DataFrame:
    """Numeric signals of each trace. Missing is a state of its own, never a zero by accident.

    Args:
        traces: columns of ``TraceRow``.
        feedback: columns of ``FeedbackRow``; rows of other traces are ignored.
        flags: columns of ``HallucinationFlagRow``, one row a trace.

    Returns:
        Floats, indexed by prompt_id, in the order of ``traces``.

    Raises:
        ValueError: a trace has no flag; names the first.
    """
    index = pd.Index(traces["prompt_id"], name="prompt_id")
    flags = flags.set_index("prompt_id")
    if len(missing := index.difference(flags.index)):
        raise ValueError(f"{len(missing)} traces have no flag, first {missing[0]}: flag them first")
    flags = flags.loc[index]
    outputs = pd.Series(traces["output"].to_numpy(), index=index)
    latency = pd.Series(pd.to_numeric(traces["latency_ms"]).to_numpy(), index=index, dtype=float)
    columns = {
        "contract_broken": flags["flag"] & (flags["tier"] == "T0"),
        "hallucination": flags["score"],
        "cannot_tell": flags["grounded"] == "cannot_tell",
        "log_words": np.log1p(outputs.str.count(r"\S+")),
        "latency_z": _standardised(latency),
        "latency_missing": latency.isna(),
    }
    tasks = pd.get_dummies(traces["task"].to_numpy(), prefix="task", prefix_sep="=")
    if tasks.shape[1] <= 20:  # more tasks than that would eat the reviews
        columns |= {str(name): tasks[name].to_numpy() for name in tasks}
    frame = pd.concat([_reactions(outputs, feedback), pd.DataFrame(columns, index=index)], axis=1)
    return frame.astype(float)


def _reactions(outputs: pd.Series, feedback: pd.DataFrame) -> pd.DataFrame:
    """What users did: one column an action, and whether they did anything at all."""
    known = feedback[feedback["prompt_id"].isin(outputs.index) & (feedback["kind"] != "review")]
    frame = pd.DataFrame(index=outputs.index)
    for action in ACTIONS:
        frame[action] = outputs.index.isin(known.loc[known["kind"] == action, "prompt_id"])
    frame["no_feedback"] = ~outputs.index.isin(known["prompt_id"])
    rating = known[known["kind"] == "rating"].groupby("prompt_id")["value"].mean()
    frame["rating"] = rating.reindex(outputs.index).fillna(0.5)
    frame["rating_missing"] = ~outputs.index.isin(rating.index)
    edits = known[known["kind"] == "modified"].sort_values("ts").groupby("prompt_id").last()
    answers = outputs.to_dict()
    distance = {
        prompt_id: edit_distance(answers[prompt_id], str(edited))
        for prompt_id, edited in zip(edits.index, edits["edited_output"], strict=True)
    }
    frame["edit_distance"] = pd.Series(distance, dtype=float).reindex(outputs.index).fillna(0.0)
    return frame


def _standardised(values: pd.Series) -> pd.Series:
    logs = np.log1p(values)
    spread = logs.std()
    if not spread > 0:  # nothing known, or all the same
        return pd.Series(0.0, index=values.index)
    return ((logs - logs.mean()) / spread).clip(-5, 5).fillna(0.0)


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
