"""Everything a quality score is fitted to, read from the store, and the score stored again.

How it is fitted is in ``model``.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.labels.judges import (
    JudgeAgreement,
    judge_features,
    judges_agreement,
    judges_columns,
    opinions,
)
from loop_pipeline.labels.pairs import candidates
from loop_pipeline.labels.quality.model import Fitted, QualityModel, fit_quality
from loop_pipeline.labels.reviews.doubtful import doubtful
from loop_pipeline.labels.reviews.queue import take_reviews_in
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.labels.signals import features, tasks
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import read, upsert
from loop_pipeline.store.tables import (
    HallucinationFlagRow,
    QualityModelRow,
    ReviewerRow,
    ReviewItemRow,
    TraceRow,
    TraceSignalRow,
)
from loop_pipeline.store.traces import read_feedback


class QualityInputs(NamedTuple):
    """Inputs of ``fit_quality``, by prompt_id."""

    features: pd.DataFrame
    tasks: pd.Series
    verdicts: pd.DataFrame
    """What people found, those who cannot be relied on included."""
    p_review: pd.Series | None
    clusters: pd.Series
    candidates: pd.Series
    judges: dict[str, str]
    """The column of each judge, as ``labels.judges.judges_columns`` gives them."""
    agreement: list[JudgeAgreement]
    """Each judge against people."""


class Reviewed(NamedTuple):
    """Verdicts on randomly drawn answers, and what the score says of all of them."""

    good: pd.Series
    """By prompt_id."""
    proxy: pd.Series | None
    """P(good) by prompt_id, of reviewed answers out of fold; None: there is no score."""
    p_review: pd.Series | None
    clusters: pd.Series | None = None
    """Conversation or the like of all traces; None: each trace by itself."""


def quality_inputs(engine: Engine) -> QualityInputs:
    """Read what is known of all answers and what people found."""
    columns = ["prompt_id", "task", "template_hash", "conversation_id", "dedup_key", "producer"]
    traces = read(engine, TraceRow, columns=columns)
    queue = read(engine, ReviewItemRow, columns=["prompt_id", "p_review", "status"])
    drawn = queue[queue["status"] != "skipped"].set_index("prompt_id")["p_review"].astype(float)
    talk = traces["conversation_id"].where(traces["conversation_id"].notna(), traces["dedup_key"])
    feedback = read_feedback(engine)
    flags = read(engine, HallucinationFlagRow, columns=["prompt_id", "flag"])
    found, p_review = verdicts(feedback, read(engine, ReviewerRow)), drawn if len(queue) else None
    clusters, signals = talk.set_axis(traces["prompt_id"]), read(engine, TraceSignalRow)
    good, said = relied_on(found)["good"].astype(bool), opinions(feedback)
    if p_review is not None:
        good = good[good.index.isin(p_review.index)]  # who volunteered was not drawn
    judges = judges_columns(said, good.index)
    heard = judge_features(said, judges, pd.Index(signals["prompt_id"]))
    return QualityInputs(
        features(signals, heard),
        tasks(traces),
        found,
        p_review,
        clusters,
        candidates(traces, feedback, flags),
        judges,
        judges_agreement(said, good, p_review, clusters, judges),
    )


def fit_on_inputs(known: QualityInputs, settings: LoopSettings) -> Fitted:
    """The quality score of what is known."""
    fitted = fit_quality(
        known.features,
        known.tasks,
        relied_on(known.verdicts),
        known.p_review,
        known.clusters,
        known.candidates,
        target_precision=settings.target_precision,
        delta=settings.delta,
    )
    stack = fitted.model.stack.model_copy(update={"judges": known.judges})
    return fitted._replace(model=fitted.model.model_copy(update={"stack": stack}).sealed())


class Refreshed(NamedTuple):
    """A score that was fitted and stored, and what came to light by it."""

    model: QualityModel
    doubts: pd.DataFrame
    """Doubtful verdicts, as ``reviews.doubtful.doubtful`` gives them."""
    judges: list[JudgeAgreement]
    """Each judge against people."""


def refresh_quality(engine: Engine, settings: LoopSettings) -> Refreshed:
    """Fit the quality score, store it, and have somebody else look at verdicts that it doubts."""
    known = quality_inputs(engine)
    model, out_of_fold = fit_on_inputs(known, settings)
    thresholds = [p.threshold for p in model.promises.values() if p.threshold]
    row = {
        "version": model.version,
        "created_at": dt.datetime.now(dt.UTC),
        "labels": model.n_labels,
        "model": model.model_dump(mode="json"),
        "threshold": min(thresholds, default=None),
        "reason": model.reason,
    }
    with engine.begin() as connection:
        upsert(connection, QualityModelRow, [row])
    doubts = doubtful(known.verdicts, out_of_fold)
    take_reviews_in(engine, doubts)
    return Refreshed(model, doubts, known.agreement)


def reviewed(known: QualityInputs, settings: LoopSettings) -> Reviewed:
    """Verdicts and proxy for estimates of mean quality (``stats.ppi``)."""
    good = relied_on(known.verdicts)["good"].astype(bool)
    if known.p_review is not None:  # who volunteered their verdicts was not drawn
        good = good[good.index.isin(known.p_review.index)]
    fitted = fit_on_inputs(known, settings)
    if not fitted.model.usable:
        return Reviewed(good, None, known.p_review, known.clusters)
    proxy = fitted.model.predict(known.features, known.tasks)
    proxy.loc[fitted.scores.index] = fitted.scores
    drawn = good[good.index.isin(fitted.scores.index)]
    return Reviewed(drawn, proxy, known.p_review, known.clusters)
