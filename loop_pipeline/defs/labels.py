"""Labels, day by day: what is known about each answer, how good it is, and what it teaches."""

import datetime as dt

import dagster as dg
import pandas as pd

from loop_pipeline.answers.contract import SLIP
from loop_pipeline.artifacts import habit_folder
from loop_pipeline.defs.resources import Loop, traces_seen_by
from loop_pipeline.defs.reviews import quality_model, reviewers
from loop_pipeline.defs.traces import ONE_RUN, TRACE_DAYS, count_by_day
from loop_pipeline.labels.hallucination.flags import (
    flag_hallucinations,
    habits_of,
    text_traces,
)
from loop_pipeline.labels.hallucination.habits.habit_files import write_habits
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.labels.judges import judge_features, opinions
from loop_pipeline.labels.quality.model import QualityModel, score_quality
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.labels.signals import features, tasks
from loop_pipeline.labels.signals import trace_signals as signals_of
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import (
    ReviewerRow,
)
from loop_pipeline.store.traces import read_feedback, read_traces, with_earlier
from loop_pipeline.store.training_data import newest_quality_model
from loop_pipeline.traces.shown_text import text_table

DAILY = {"partitions_def": TRACE_DAYS, "backfill_policy": ONE_RUN, "group_name": "labels"}


EVERY_ANSWER = dg.AssetCheckSpec(
    "every_answer_is_flagged_or_clean",
    asset="hallucination_flags",
    blocking=True,
    partitions_def=TRACE_DAYS,
    description="""Every answer that the run took up was looked at: it is flagged, or it is clean.

What is imported while the run goes on is left to the next one (sensor `unlabelled_days`).

**If it fails,** nothing after it runs.

**What to do:** report it as a bug; the check's table has the prompt ids.

**Read more** in `docs/concepts/hallucination.md`.""",
)


@dg.asset(
    **DAILY,
    # Of an asset that reports a check, Dagster does not take the type from the annotation.
    dagster_type=dg.PythonObjectDagsterType(pd.DataFrame),
    check_specs=[EVERY_ANSWER],
    kinds={"pandas"},
    code_version="3",
)
def hallucination_flags(
    context: dg.AssetExecutionContext, loop: Loop, raw_traces: pd.DataFrame
) -> dg.MaterializeResult:
    """For every answer: does it say what its request and its contract do not support, and why.

    A flagged answer is never learned from, unless a reviewer found it good. What the wording of a
    template's answers can tell is learned from these days, and earlier ones where they are few.

    **When to run it:** the jobs `describe_traces` and `label_traces` do. By hand for all days after
    the detector was changed (LOOP_DETECTOR_FILE, LOOP_ENCODER).

    **If it fails,** the message names the prompt id or the model that could not be read.

    **Read more** in `docs/concepts/hallucination.md`.
    """
    settings, until = loop.settings(), max(context.partition_keys)
    tiers, habits = tiers_of(settings), {}
    if len(raw_traces):
        seen = with_earlier(loop.engine(), raw_traces, context.partition_keys)
        habits = habits_of(text_traces(seen), tiers)
        write_habits(habit_folder(settings), habits, until=until, detector=tiers.detector.version)
    flags = flag_hallucinations(raw_traces, tiers=tiers, habits=habits)
    told_by = [habit.told if habit.sources else "unknown" for habit in habits.values()]
    reasons = flags.loc[flags["flag"], "reasons"].explode().str.replace(r"[:'\"].*", "", regex=True)
    unsure = flags["grounded"] == "cannot_tell"
    flagged = flags["flag"].astype(bool)
    count_by_day(context, flags[["day"]].assign(flagged=flagged, cannot_tell=unsure))
    return dg.MaterializeResult(
        value=flags,
        metadata={
            "slips of form": int(flags["reasons"].map(_slipped).sum()),
            "reasons": dg.MetadataValue.md(text_table(reasons.value_counts().head(10)) or "none"),
            "templates_told_by": {told: told_by.count(told) for told in sorted({*told_by})},
        },
        check_results=[_looked_at(raw_traces, flags)],
    )


def _slipped(reasons: list[str]) -> bool:
    return any(reason.startswith(SLIP) for reason in reasons)


def _looked_at(traces: pd.DataFrame, flags: pd.DataFrame) -> dg.AssetCheckResult:
    missing = set(traces["prompt_id"]) - set(flags["prompt_id"])
    return dg.AssetCheckResult(
        check_name=EVERY_ANSWER.name,
        passed=not missing,
        metadata={"unchecked": len(missing), "prompt_ids": sorted(missing)[:10]},
    )


@dg.asset(
    **DAILY,
    deps=[reviewers],
    ins={"raw_traces": traces_seen_by("hallucination_flags")},
    kinds={"pandas"},
    code_version="2",
)
def trace_signals(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """What is known about every answer: reactions, edits, validity, grounding. Null: not known.

    **When to run it:** the jobs `describe_traces`, `label_traces` and `score_traces` do. Reviews
    are drawn only among answers that have their signals.

    **If it fails,** the message names what could not be read; run the day again.

    **Read more** in `docs/concepts/quality.md`.
    """
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


@dg.asset(
    **DAILY,
    deps=[quality_model],
    ins={"raw_traces": traces_seen_by("trace_signals")},
    kinds={"pandas"},
    code_version="2",
)
def quality_scores(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    trace_signals: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """How likely every answer is good, and why: a reviewer's verdict where there is one.

    **When to run it:** the jobs `label_traces` and `score_traces` do. Run `score_traces` for all
    days after `refresh_quality`: earlier days keep the scores of the earlier model until then.

    **If it fails,** the message names what could not be read; run the day again.

    **Read more** in `docs/concepts/quality.md`.
    """
    engine = loop.engine()
    reviews = read_feedback(engine, days=context.partition_keys, kind="review")
    judged = relied_on(verdicts(reviews, read(engine, ReviewerRow)))
    stored = newest_quality_model(engine)
    model = QualityModel.model_validate(stored["model"]) if stored else None
    heard = None
    if model is not None and model.stack.judges:
        said = opinions(read_feedback(engine, days=context.partition_keys, kind="judge"))
        heard = judge_features(said, model.stack.judges, pd.Index(trace_signals["prompt_id"]))
    scores = score_quality(model, features(trace_signals, heard), tasks(raw_traces), judged)
    scores = scores.merge(raw_traces[["prompt_id", "day"]], on="prompt_id")
    above = scores["score"].astype(float) >= scores["threshold"].astype(float)
    origin = {"by_people": scores["origin"] == "human", "by_model": scores["origin"] == "model"}
    count_by_day(context, scores[["day"]].assign(**origin, above_threshold=above))
    return dg.MaterializeResult(
        value=scores, metadata={"examples": dg.MetadataValue.md(_examples(scores))}
    )


def _examples(scores: pd.DataFrame) -> str:
    """Where a score comes from, for rows from the lowest to the highest."""
    rows = scores[scores["origin"] == "model"].sort_values("score", kind="stable")
    shown = rows.iloc[:: max(1, len(rows) // 9)][["prompt_id", "score", "threshold", "because"]]
    return text_table(shown, index=False, floatfmt=".3f") if len(shown) else "no model scores yet"
