"""What each trace teaches, and why: from outcomes to training rows.

Not here: which rows are then used (``training/dataset/selection.py``).

A target is learned in the form of its contract (``answers.contract.in_form``), whatever form it was
said in; what to avoid is learned as it was said.

Who decides when people contradict each other: reviewers before users (and among them
``reviews.reviewers``), among users the newest action. A correction is used unless a reviewer found
the original good. Whatever does not decide stays in ``feedback``.

| outcome                                              | rows                                     |
|------------------------------------------------------|------------------------------------------|
| reviewer: good                                       | sft, kto_pos (unless it breaks contract) |
| accepted or no reaction, score >= threshold, clean   | sft, kto_pos                             |
| modified                                             | sft and kto_pos on the edit, maybe dpo   |
| rejected, thumbed down, or reviewer: bad             | kto_neg                                  |
| flagged, accepted or not                             | kto_neg                                  |
| made by the student                                  | never a positive, negative by people only |
| cut off, empty, nothing but thoughts                 | never a positive, negative by people only |
| regenerated, or nothing known                        | nothing                                  |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from loop_pipeline.answers.contract import in_form
from loop_pipeline.answers.said import said, was_cut
from loop_pipeline.hashing import digest
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.signals import edit_distance
from loop_pipeline.store.tables import LabeledPairRow

VERSION = "pairs-3"
COLUMNS = [column.name for column in LabeledPairRow.__table__.columns]
# Smaller edits are typing, larger ones another answer: neither says which wording is better.
EDIT_RANGE = (0.02, 0.6)
TRUSTED = ("frontier", "human")


class Lesson(NamedTuple):
    """One training row before it has an id."""

    kind: str
    chosen: str | None
    rejected: str | None
    reason: str


def label_pairs(
    traces: pd.DataFrame,
    feedback: pd.DataFrame,
    flags: pd.DataFrame,
    scores: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    tiers: Tiers,
) -> pd.DataFrame:
    """Map traces to training rows by the table above.

    Args:
        traces: columns of ``TraceRow`` plus ``contract``.
        feedback: columns of ``FeedbackRow``.
        flags: columns of ``HallucinationFlagRow``, one row a trace.
        scores: prompt_id, score, threshold, origin, version, one row a trace. Without a threshold
            the score alone makes no positive.
        verdicts: column good of the reviewed answers, by prompt_id.
        tiers: who looks at the texts of corrections.

    Returns:
        Rows with the columns of ``LabeledPairRow``; traces that teach nothing have none.

    Raises:
        ValueError: a trace has no flag or no score; names the first.
    """
    known = traces.drop(columns=["score", "version"], errors="ignore")
    for name, frame in (("flag", flags), ("score", scores)):
        if len(missing := known.loc[~known["prompt_id"].isin(frame["prompt_id"]), "prompt_id"]):
            raise ValueError(f"{len(missing)} traces have no {name}, first {missing.iloc[0]}")
    names = ["prompt_id", "day", "output", "producer", "finish_reason", "contract"]
    outcome = known.reindex(columns=names).merge(
        flags[["prompt_id", "flag", "tier", "reasons", "version"]], on="prompt_id"
    )
    columns = ["prompt_id", "score", "threshold", "origin", "version"]
    outcome = outcome.merge(scores[columns], on="prompt_id", suffixes=("_flag", "_score"))
    people = _people(traces, feedback, verdicts, tiers)
    rows: list[dict[str, Any]] = []
    for row in outcome.to_dict("records"):
        trace = {str(name): value for name, value in row.items()}
        trace |= people.get(trace["prompt_id"], {})
        rows += [_row(trace, lesson) for lesson in _lessons(trace)]
    return pd.DataFrame(rows, columns=COLUMNS)


def last_actions(feedback: pd.DataFrame) -> pd.Series:
    """The newest action of a user on each answer, by prompt_id.

    Accepted, modified, rejected or regenerated; thumbs and ratings say accepted or rejected, a
    look says nothing.
    """
    rows = feedback.sort_values("ts", kind="stable")
    words = {kind: kind for kind in ("accepted", "modified", "rejected", "regenerated")}
    action = rows["kind"].map(words | {"thumb_up": "accepted", "thumb_down": "rejected"})
    liked = (rows["value"].astype(float) >= 0.5).map({True: "accepted", False: "rejected"})
    rated = rows["kind"] == "rating"
    action.loc[rated] = liked.loc[rated]
    return action.dropna().groupby(rows["prompt_id"]).last()


def candidates(traces: pd.DataFrame, feedback: pd.DataFrame, flags: pd.DataFrame) -> pd.Series:
    """Whether a score alone could make an answer a positive, by prompt_id.

    Nobody objected, nothing is flagged and no student made it. A threshold's promise is about
    these.
    """
    index = pd.Index(traces["prompt_id"])
    action = last_actions(feedback).reindex(index)
    flagged = flags.set_index("prompt_id")["flag"].reindex(index).eq(True)
    trusted = traces["producer"].isin(TRUSTED).to_numpy()
    return (action.isna() | (action == "accepted")) & ~flagged & trusted


def _people(
    traces: pd.DataFrame, feedback: pd.DataFrame, verdicts: pd.DataFrame, tiers: Tiers
) -> dict[str, dict[str, Any]]:
    """What people said, by prompt id: verdict, newest action, newest edit and its flag."""
    known = feedback[feedback["prompt_id"].isin(traces["prompt_id"])].sort_values(
        "ts", kind="stable"
    )
    said: dict[str, dict[str, Any]] = {}
    judged = verdicts.loc[verdicts.index.isin(traces["prompt_id"]), "good"]
    for prompt_id, good in judged.items():
        said.setdefault(str(prompt_id), {})["verdict"] = bool(good)
    for prompt_id, action in last_actions(known).items():
        said.setdefault(str(prompt_id), {})["action"] = action
    for record in known.to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        person = said.setdefault(str(row["prompt_id"]), {})
        if isinstance(row["edited_output"], str) and row["edited_output"].strip():
            person["edit"] = row["edited_output"]
            person["edit_action"] = row["kind"]
    edited = traces[traces["prompt_id"].isin([p for p, v in said.items() if "edit" in v])]
    edited = edited.assign(
        output=[said[p]["edit"] for p in edited["prompt_id"]], finish_reason=None
    )
    flags = flag_hallucinations(edited, tiers=tiers, form_of=traces)
    for prompt_id, flag, tier in zip(flags["prompt_id"], flags["flag"], flags["tier"], strict=True):
        said[prompt_id] |= {"edit_flag": flag, "edit_tier": tier}
    return said


def _lessons(trace: dict[str, Any]) -> list[Lesson]:
    verdict, action, output = trace.get("verdict"), trace.get("action"), said(trace["output"])
    if _edit_stands(trace):
        return _from_edit(trace)
    if not output.strip():
        return []  # a student would learn to say nothing, or that something unsaid is bad
    if verdict is False:
        return [Lesson("kto_neg", None, output, "a reviewer found it bad")]
    if verdict is None and action == "rejected":
        return [Lesson("kto_neg", None, output, "the user rejected it")]
    # A cut one, whoever liked it: a student would learn to stop in the middle.
    if trace["producer"] not in TRUSTED or was_cut(trace["finish_reason"]):
        return []
    if trace["flag"] and (not verdict or trace["tier"] == "T0"):
        # Praised, yet it breaks its contract: nobody learns from a contradiction.
        return [] if verdict else [_flagged(trace, output)]
    target = in_form(output, _contract(trace))
    if verdict:
        return _positive(target, "a reviewer found it good")
    return _by_score(target, action, trace["score"], trace["threshold"])


def _contract(trace: dict[str, Any]) -> dict[str, Any] | None:
    """The contract of a trace; a missing one is no dictionary in a frame."""
    return trace["contract"] if isinstance(trace["contract"], dict) else None


def _flagged(trace: dict[str, Any], output: str) -> Lesson:
    heard = "accepted but flagged" if trace.get("action") == "accepted" else "flagged"
    why = "; ".join(map(str, trace["reasons"]))
    return Lesson("kto_neg", None, output, f"{heard}: {why}")


def _by_score(
    output: str, action: str | None, score: float | None, threshold: float | None
) -> list[Lesson]:
    if score is None or threshold is None or not score >= threshold:
        return []  # NaN is unknown, too
    if action not in (None, "accepted"):
        return []
    heard = "accepted" if action else "no reaction"
    return _positive(output, f"{heard}, score {score:.3f} >= {threshold:.3f}, not flagged")


def _edit_stands(trace: dict[str, Any]) -> bool:
    """A reviewer's correction always does, a user's unless a newer action took it back."""
    if "edit" not in trace or trace.get("verdict") is True:
        return False
    if not said(trace["edit"]).strip():
        return False
    if trace["edit_flag"] and trace["edit_tier"] == "T0":
        return False  # a target outside the contract would teach to break it
    return trace["edit_action"] == "review" or trace.get("action") == "modified"


def _from_edit(trace: dict[str, Any]) -> list[Lesson]:
    """The correction is the target; with the original it makes a pair if they are comparable."""
    contract = _contract(trace)
    edit, output = in_form(said(trace["edit"]), contract), said(trace["output"])
    who = "a reviewer" if trace["edit_action"] == "review" else "the user"
    distance = edit_distance(output, edit)
    lessons = _positive(edit, f"{who} corrected it (edit distance {distance:.2f})")
    comparable = EDIT_RANGE[0] <= distance <= EDIT_RANGE[1] and output.strip() != ""
    if comparable and not trace["edit_flag"]:
        reason = f"{who} preferred the correction (edit distance {distance:.2f})"
        # Where more than the form was corrected, the form is not what is preferred.
        plain = in_form(output, contract)
        lessons.append(Lesson("dpo", edit, output if plain == edit else plain, reason))
    return lessons


def _positive(text: str, reason: str) -> list[Lesson]:
    return [Lesson("sft", text, None, reason), Lesson("kto_pos", text, None, reason)]


def _row(trace: dict[str, Any], lesson: Lesson) -> dict[str, Any]:
    prompt_id, score = trace["prompt_id"], trace["score"]
    scorer = str(trace["version_score"] or trace["origin"])[:12]
    return {
        "pair_id": digest(prompt_id, lesson.kind, lesson.chosen or "", lesson.rejected or "")[:32],
        "prompt_id": prompt_id,
        "day": trace["day"],
        "score": None if score is None or pd.isna(score) else float(score),
        "version": f"{VERSION} {trace['version_flag']} score {scorer}",
    } | lesson._asdict()
