"""The review queue in the store: who is drawn, what waits for whom, what is decided.

Not here: how people are asked (``mlflow_push.py``, ``spreadsheets.py``), and what people are told
of the queue (``review_status.py``).

An item is ``skipped`` (not drawn), ``open``, ``second`` (another reviewer is asked) or ``done``.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
from sqlalchemy import Engine, Select, exists, or_, select

from loop_pipeline.labels.reviews.draw import draw_reviews
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts, weigh_reviewers
from loop_pipeline.stats.sampling import coin
from loop_pipeline.store.database import of_app, query, read, records, upsert
from loop_pipeline.store.tables import (
    FeedbackRow,
    GroupMemberRow,
    HallucinationFlagRow,
    QualityScoreRow,
    ReviewerRow,
    ReviewItemRow,
    TaskGroupRow,
    TraceRow,
    TraceSignalRow,
)

SEED = 7
# Traces that are drawn at once; SQLite takes at most 32,766 variables in one statement.
PART = 30_000
# A task group with fewer requests than this is new: little is known about it.
NEW_GROUP = 50
# Where verdicts differ a third voice is asked for, and no more.
VOICES = 3


def update_queue(engine: Engine, *, base_rate: float) -> pd.DataFrame:
    """Draw among the traces that are new, or that users reacted to since they were last drawn.

    A trace is in the draw once its signals are in the store; answers of the frontier and of the
    student alike.

    Returns:
        The rows that were looked at: prompt_id, p_review, reason, status.
    """
    quartiles = _quartiles(engine)
    parts = [pd.DataFrame(columns=["prompt_id", "p_review", "reason", "status"])]
    last = ""
    while len(known := query(engine, _due(engine, last)).set_index("prompt_id")):
        last = str(known.index[-1])
        earlier = read(engine, ReviewItemRow, prompt_id=list(known.index))
        drawn = draw_reviews(
            known, seed=SEED, base_rate=base_rate, earlier=earlier, quartiles=quartiles
        )
        links = earlier.set_index("prompt_id")["mlflow_trace_id"].reindex(drawn["prompt_id"])
        now = dt.datetime.now(dt.UTC)
        rows = drawn.assign(drawn_at=now, mlflow_trace_id=links.to_numpy())
        with engine.begin() as connection:
            upsert(connection, ReviewItemRow, records(rows))
        parts.append(drawn)
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _due(engine: Engine, after: str) -> Select[Any]:
    """Everything that is known of the traces that are due for a draw, a part at a time."""
    item, signals = ReviewItemRow, TraceSignalRow
    # Reviews are left out: what a reviewer found must never change the chance of the review.
    reacted = exists().where(
        FeedbackRow.prompt_id == signals.prompt_id,
        FeedbackRow.kind != "review",
        FeedbackRow.received_at > item.drawn_at,
    )
    scored = (QualityScoreRow.prompt_id == signals.prompt_id) & (QualityScoreRow.origin == "model")
    return (
        select(
            *signals.__table__.c,
            TraceRow.task,
            HallucinationFlagRow.flag,
            QualityScoreRow.score,
            (TaskGroupRow.size < NEW_GROUP).label("new_group"),
        )
        .join(TraceRow, TraceRow.prompt_id == signals.prompt_id)
        .outerjoin(HallucinationFlagRow, HallucinationFlagRow.prompt_id == signals.prompt_id)
        .outerjoin(QualityScoreRow, scored)
        .outerjoin(GroupMemberRow, GroupMemberRow.prompt_id == signals.prompt_id)
        .outerjoin(TaskGroupRow, TaskGroupRow.group_id == GroupMemberRow.group_id)
        .outerjoin(item, item.prompt_id == signals.prompt_id)
        .where(or_(item.prompt_id.is_(None), reacted), signals.prompt_id > after)
        .where(of_app(engine))
        .order_by(signals.prompt_id)
        .limit(PART)
    )


def _quartiles(engine: Engine) -> dict[str, float]:
    scored = (
        select(TraceRow.task, QualityScoreRow.score)
        .join(QualityScoreRow, QualityScoreRow.prompt_id == TraceRow.prompt_id)
        .where(QualityScoreRow.origin == "model", of_app(engine))
    )
    scores = query(engine, scored).astype({"score": float})
    return {
        str(task): float(q) for task, q in scores.groupby("task")["score"].quantile(0.25).items()
    }


def open_items(
    engine: Engine, *, reviewer: str | None = None, limit: int | None = None
) -> pd.DataFrame:
    """What waits for a review, in the order in which it should be done.

    Second opinions come first. The rest goes by coin / p_review, which says nothing about an
    answer: those done first are a sample of all that were drawn, whenever people stop.

    Args:
        engine: the store.
        reviewer: leave out what this person has reviewed already.
        limit: at most so many.

    Returns:
        prompt_id, p_review, reason, status, mlflow_trace_id, task, messages, context, output, and
        flags (reasons of the hallucination flag, or None).
    """
    item = ReviewItemRow
    statement = (
        select(
            *(item.prompt_id, item.p_review, item.reason, item.status, item.mlflow_trace_id),
            *(TraceRow.task, TraceRow.messages, TraceRow.context, TraceRow.output),
            HallucinationFlagRow.reasons.label("flags"),
        )
        .join(TraceRow, TraceRow.prompt_id == item.prompt_id)
        .outerjoin(HallucinationFlagRow, HallucinationFlagRow.prompt_id == item.prompt_id)
        .where(item.status.in_(["open", "second"]), of_app(engine))
    )
    if reviewer is not None:
        seen = select(FeedbackRow.prompt_id).where(
            FeedbackRow.kind == "review", FeedbackRow.actor == reviewer
        )
        statement = statement.where(item.prompt_id.not_in(seen))
    found = query(engine, statement)
    turn = [
        (status != "second", coin(SEED, prompt_id) / p)
        for status, prompt_id, p in zip(
            found["status"], found["prompt_id"], found["p_review"], strict=True
        )
    ]
    order = sorted(range(len(found)), key=turn.__getitem__)[:limit]
    return found.iloc[order].reset_index(drop=True)


def closed(
    items: pd.DataFrame, found: pd.DataFrame, doubts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Status and reason of drawn items after what was said about them. No verdict is changed.

    Where reviewers disagree a third one is asked, and so is another one where the only reviewer
    cannot be relied on. What ``doubtful`` names waits for a second reviewer; after that, the
    reviewers have decided.

    Args:
        items: columns of ``ReviewItemRow``.
        found: as ``reviews.reviewers.verdicts`` gives it.
        doubts: as ``reviews.doubtful.doubtful`` gives it.

    Returns:
        The items that change, with their new status and reason.
    """
    rows = items[items["status"] != "skipped"].set_index("prompt_id")
    of_item = found.reindex(rows.index)
    voices, contested = of_item["reviews"].fillna(0), of_item["contested"].eq(True)
    doubted = pd.Series(dtype=object) if doubts is None else doubts.set_index("prompt_id")["reason"]
    doubted = doubted.reindex(rows.index)
    weak = (voices > 0) & ~rows.index.isin(relied_on(found).index)
    split = (contested | weak) & (voices < VOICES)
    unsure = (voices == 1) & (doubted.notna() | (rows["status"] == "second"))
    after = rows.copy()
    after.loc[voices > 0, "status"] = "done"
    after.loc[split | unsure, "status"] = "second"
    why = doubted.where(doubted.notna(), "").where(~weak, "its reviewer answers like a coin")
    why = why.where(~(split & contested), "reviewers disagree")
    new = (after["status"] == "second") & (rows["status"] != "second")
    after.loc[new, "reason"] = after.loc[new, "reason"] + "; " + why[new]
    return after[after["status"] != rows["status"]].reset_index()


def take_reviews_in(engine: Engine, doubts: pd.DataFrame | None = None) -> list[str]:
    """After reviews have come: weigh the reviewers again, close what is decided.

    Args:
        engine: the store.
        doubts: as ``reviews.doubtful.doubtful`` gives it.

    Returns:
        Warnings that name reviewers.
    """
    feedback = read(engine, FeedbackRow, kind="review")
    crew = weigh_reviewers(feedback)
    items = read(engine, ReviewItemRow, status=["open", "second", "done"])
    changed = closed(items, verdicts(feedback, crew), doubts)
    with engine.begin() as connection:
        upsert(connection, ReviewerRow, records(crew))
        upsert(connection, ReviewItemRow, records(changed))
    return [str(text) for text in crew["warning"].dropna()]
