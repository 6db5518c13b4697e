"""Labels, day by day: what is known about each answer, how good it is, and what it teaches."""

import datetime as dt

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.reviews import quality_model, reviewers
from loop_pipeline.defs.traces import ONE_RUN, TRACE_DAYS, count_by_day
from loop_pipeline.labels.hallucination.flags import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.quality.model import QualityModel, score_quality
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.labels.signals import features, tasks
from loop_pipeline.labels.signals import trace_signals as signals_of
from loop_pipeline.report.group_plots import group_counts_figure
from loop_pipeline.report.plots import daily_counts_figure, plot_png_markdown
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import (
    GroupMemberRow,
    LabeledPairRow,
    ReviewerRow,
    TaskGroupRow,
    TraceRow,
)
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.store.training_data import newest_quality_model

_DAILY = {"partitions_def": TRACE_DAYS, "backfill_policy": ONE_RUN, "group_name": "labels"}


@dg.asset(**_DAILY, kinds={"pandas"}, code_version="2")
def hallucination_flags(
    context: dg.AssetExecutionContext, loop: Loop, raw_traces: pd.DataFrame
) -> dg.MaterializeResult[pd.DataFrame]:
    """For every answer: does it say what its request and contract do not support, and why."""
    flags = flag_hallucinations(raw_traces, tiers=tiers_of(loop.settings()))
    reasons = flags.loc[flags["flag"], "reasons"].explode().str.replace(r"[:'\"].*", "", regex=True)
    unsure = flags["grounded"] == "cannot_tell"
    count_by_day(context, flags[["day"]].assign(flagged=flags["flag"], cannot_tell=unsure))
    return dg.MaterializeResult(
        value=flags,
        metadata={
            "reasons": dg.MetadataValue.md(reasons.value_counts().head(10).to_markdown() or "none"),
        },
    )


@dg.asset_check(
    asset="hallucination_flags",
    partitions_def=TRACE_DAYS,
    additional_ins={"raw_traces": dg.AssetIn("raw_traces")},
    blocking=True,
)
def every_answer_is_flagged_or_clean(
    raw_traces: pd.DataFrame, hallucination_flags: pd.DataFrame
) -> dg.AssetCheckResult:
    """No answer goes on unchecked."""
    missing = set(raw_traces["prompt_id"]) - set(hallucination_flags["prompt_id"])
    return dg.AssetCheckResult(passed=not missing, metadata={"unchecked": sorted(missing)[:10]})


@dg.asset(**_DAILY, deps=[reviewers], kinds={"pandas"}, code_version="2")
def trace_signals(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """What is known about every answer: reactions, edits, validity, grounding; null: not known."""
    engine, days = loop.engine(), context.partition_keys
    feedback = read_feedback(engine, days=days)
    after = {(dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat() for day in days}
    frame = signals_of(
        raw_traces,
        feedback,
        hallucination_flags,
        verdicts(feedback, read(engine, ReviewerRow)),
        later=read_traces(engine, days=after - set(days)),
    )
    known = frame.drop(columns=["prompt_id", "day", "version"]).notna()
    count_by_day(context, frame[["day"]].assign(reviews=frame["reviews"], with_action=known.action))
    shares = known.mean().round(4).rename("known").to_markdown()
    return dg.MaterializeResult(value=frame, metadata={"known": dg.MetadataValue.md(shares)})


@dg.asset(**_DAILY, deps=[quality_model], kinds={"pandas"}, code_version="2")
def quality_scores(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    trace_signals: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """P(good) of every answer and why: a person's verdict where there is one, else the score."""
    engine = loop.engine()
    reviews = read_feedback(engine, days=context.partition_keys, kind="review")
    judged = relied_on(verdicts(reviews, read(engine, ReviewerRow)))
    stored = newest_quality_model(engine)
    model = QualityModel.model_validate(stored["model"]) if stored else None
    scores = score_quality(model, features(trace_signals), tasks(raw_traces), judged)
    scores = scores.merge(raw_traces[["prompt_id", "day"]], on="prompt_id")
    above = scores["score"].astype(float) >= scores["threshold"].astype(float)
    by_people = scores["origin"] == "human"
    count_by_day(context, scores[["day"]].assign(by_people=by_people, above_threshold=above))
    scored_by = {str(name): int(n) for name, n in scores["origin"].value_counts().items()}
    return dg.MaterializeResult(
        value=scores,
        metadata={
            "scored_by": dg.MetadataValue.json(scored_by),
            "examples": dg.MetadataValue.md(_examples(scores)),
        },
    )


def _examples(scores: pd.DataFrame) -> str:
    """Where a score comes from, for rows from the lowest to the highest."""
    rows = scores[scores["origin"] == "model"].sort_values("score", kind="stable")
    shown = rows.iloc[:: max(1, len(rows) // 9)][["prompt_id", "score", "threshold", "because"]]
    return shown.to_markdown(index=False, floatfmt=".3f") if len(shown) else "no model scores yet"


@dg.asset(**_DAILY, kinds={"pandas"}, code_version="2")
def labeled_pairs(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
    quality_scores: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """What a trace teaches: an answer to learn, a pair to prefer, one to avoid, or nothing."""
    engine = loop.engine()
    feedback = read_feedback(engine, days=context.partition_keys)
    judged = relied_on(verdicts(feedback, read(engine, ReviewerRow)))
    scores = quality_scores.drop(columns="day")
    pairs = label_pairs(raw_traces, feedback, hallucination_flags, scores, judged)
    kinds = {kind: pairs["kind"] == kind for kind in ("sft", "dpo", "kto_pos", "kto_neg")}
    count_by_day(context, pairs[["day"]].assign(**kinds))
    reasons = pairs["reason"].str.replace(r"(score|distance) [\d.]+", r"\1 ...", regex=True)
    return dg.MaterializeResult(
        value=pairs,
        metadata={
            "reasons": dg.MetadataValue.md(reasons.value_counts().head(15).to_markdown() or "none"),
            **_plots(loop, pairs),
        },
    )


def _plots(loop: Loop, pairs: pd.DataFrame) -> dict[str, dg.MetadataValue]:
    """All pairs, these days' as they are now, by kind: over the days, the groups and the tasks."""
    engine = loop.engine()
    columns = ["prompt_id", "day", "kind"]
    earlier = read(engine, LabeledPairRow, columns=columns)
    counts = pd.concat([earlier[~earlier["day"].isin(pairs["day"])], pairs[columns]])
    names = read(engine, TaskGroupRow, columns=["group_id", "name"]).set_index("group_id")["name"]
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    groups = members.set_index("prompt_id")["group_id"].map(names)
    task = read(engine, TraceRow, columns=["prompt_id", "task"]).set_index("prompt_id")["task"]
    figures = {"by_day": daily_counts_figure(counts)}
    for title, of in (("by_task", task), ("by_group", groups)):
        if len(of):
            known = counts["prompt_id"].map(of).fillna("none")
            figures[title] = group_counts_figure(counts.assign(group=known))
    return {name: dg.MetadataValue.md(plot_png_markdown(f)) for name, f in figures.items()}


@dg.asset_check(asset="labeled_pairs", partitions_def=TRACE_DAYS, blocking=True)
def pairs_are_unique(labeled_pairs: pd.DataFrame) -> dg.AssetCheckResult:
    """The same pair is never learned twice."""
    duplicates = int(labeled_pairs["pair_id"].duplicated().sum())
    return dg.AssetCheckResult(passed=duplicates == 0, metadata={"duplicates": duplicates})


@dg.asset_check(
    asset="labeled_pairs",
    partitions_def=TRACE_DAYS,
    additional_ins={
        name: dg.AssetIn(name) for name in ("raw_traces", "hallucination_flags", "quality_scores")
    },
    blocking=True,
)
def positives_are_clean(
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
    quality_scores: pd.DataFrame,
    labeled_pairs: pd.DataFrame,
) -> dg.AssetCheckResult:
    """Only a person's verdict lets a flagged answer, or one of a student, be learned as it is."""
    facts = raw_traces[["prompt_id", "output", "producer"]]
    facts = facts.merge(hallucination_flags[["prompt_id", "flag"]], on="prompt_id")
    facts = facts.merge(quality_scores[["prompt_id", "origin"]], on="prompt_id")
    positive = labeled_pairs[labeled_pairs["kind"] == "sft"].merge(facts, on="prompt_id")
    unedited = positive[positive["chosen"] == positive["output"]]
    doubtful = unedited["flag"].astype(bool) | (unedited["producer"] == "student")
    bad = unedited[doubtful & (unedited["origin"] != "human")]
    return dg.AssetCheckResult(
        passed=bad.empty,
        metadata={"bad": len(bad), "prompt_ids": bad["prompt_id"].head(10).tolist()},
    )
