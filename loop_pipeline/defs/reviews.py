"""Reviews: what people look at, how far they can be trusted, and the score fitted to their word."""

from typing import Any

import dagster as dg

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.traces import trace_log
from loop_pipeline.labels.hallucination.llm_judge import judge_of, judge_sample
from loop_pipeline.labels.judges import in_words
from loop_pipeline.labels.quality.inputs import quality_inputs, refresh_quality
from loop_pipeline.labels.quality.model import QualityModel
from loop_pipeline.labels.quality.thresholds import MIN_AUC
from loop_pipeline.labels.reviews.queue import take_reviews_in, update_queue
from loop_pipeline.labels.reviews.review_status import describe
from loop_pipeline.report.pictures.plots import plot_png_markdown
from loop_pipeline.report.quality import (
    judges_table,
    mean_table,
    promise_table,
    quality_figures,
    weights_table,
)
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import read
from loop_pipeline.store.mlflow_log.mlflow_runs import record_fit
from loop_pipeline.store.tables import ReviewerRow, ReviewItemRow
from loop_pipeline.store.tracking import Tracking, TrackingDown, few_retries
from loop_pipeline.store.training_data import newest_quality_model
from loop_pipeline.traces.shown_text import text_list, text_table

MAX_ECE = 0.1
STATES = ("open", "second", "done", "skipped")


@dg.asset(deps=[trace_log, "trace_signals"], group_name="labels", kinds={"pandas"})
def review_queue(loop: Loop) -> dg.MaterializeResult:
    """Which answers are drawn for people to look at, with which chance and why.

    Every answer has a known chance, a higher one where there is a reason to doubt it, so that a few
    hundred reviews speak for all traffic. *open*: waits for a reviewer; *second*: waits for another
    reviewer; *done*; *skipped*: was not drawn.

    **When to run it:** the job `draw_reviews` does, after `describe_traces`. The plan below says
    how many more reviews each promise takes; `loop review` prints the same.

    **If it fails,** the store cannot be read or written; nothing is lost, run it again.

    **Read more** in `docs/concepts/reviews.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    looked_at = update_queue(engine, base_rate=settings.review_rate)
    items = read(engine, ReviewItemRow, columns=["status"])
    drawn = looked_at[looked_at["status"] == "open"]
    reasons = text_table(drawn["reason"].value_counts().head(12))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(items),
            **{state: int((items["status"] == state).sum()) for state in STATES},
            "looked_at": len(looked_at),
            "drawn": len(drawn),
            "plan": dg.MetadataValue.md(text_list(describe(engine, settings))),
            "reasons": dg.MetadataValue.md(reasons or "none"),
        }
    )


@dg.asset(deps=[trace_log], group_name="labels", kinds={"pandas"})
def reviewers(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """How far each reviewer can be trusted, from answers that others reviewed as well.

    **When to run it:** the job `refresh_quality` does, after reviews came in (`loop review import`,
    `loop review pull`).

    **If it fails,** the store cannot be read or written; no verdict is lost, run it again.

    **Read more** in `docs/concepts/reviews.md`.
    """
    engine = loop.engine()
    warnings = take_reviews_in(engine)
    for warning in warnings:
        context.log.warning(warning)
    crew = read(engine, ReviewerRow)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(crew),
            "reviews": int(crew["reviews"].sum()),
            "reviewed_twice": int(crew["overlaps"].sum()),
            "warnings": len(warnings),
            "reviewers": dg.MetadataValue.md(text_table(crew, index=False, floatfmt=".2f")),
        }
    )


@dg.asset_check(asset=reviewers)
def reviewers_can_be_relied_on(loop: Loop) -> dg.AssetCheckResult:
    """Nobody answers like a coin, or clearly worse than the others.

    **If it fails,** it only warns: the word of those who are named counts less, or not at all, and
    their answers wait for somebody else.

    **What to do:** look at a few of their answers together. The question may be unclear.

    **Read more** in `docs/concepts/reviews.md`.
    """
    warnings = read(loop.engine(), ReviewerRow)["warning"].dropna().tolist()
    return dg.AssetCheckResult(
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(warnings) or None,
        metadata={"warnings": len(warnings)},
    )


@dg.asset(
    deps=["trace_signals", review_queue, reviewers],
    group_name="labels",
    kinds={"scikitlearn", "mlflow"},
)
def quality_model(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """How likely an answer is good, fitted to reviews, with thresholds that keep their promise.

    The table of judges: how far each agrees with people, and the weight it has. The pictures: which
    signals move the score; whether a score of 0.8 means eight in ten; what
    each threshold would keep; the share of good answers by task. Without enough reviews there is
    no score or no threshold, and the reason says how many are missing. That is no failure.

    **When to run it:** the job `refresh_quality` does, weekly or after many reviews. Then run
    `score_traces` for all days.

    **If it fails,** the score before it stays in use; the message says what could not be read.

    **Read more** in `docs/concepts/quality.md`.
    """
    model, doubts, judges = refresh_quality(loop.engine(), loop.settings())
    figures = quality_figures(model)
    pictures = {n: dg.MetadataValue.md(plot_png_markdown(f)) for n, f in figures.items()}
    return dg.MaterializeResult(
        metadata={
            "reason": model.reason,
            **model.metrics(),
            "doubtful": len(doubts),
            **pictures,
            "promises": dg.MetadataValue.md(promise_table(model.promises)),
            "quality": dg.MetadataValue.md(mean_table(model)),
            "weights_table": dg.MetadataValue.md(weights_table(model)),
            "judges": dg.MetadataValue.md(judges_table(judges, model)),
            "doubtful_verdicts": dg.MetadataValue.md(text_table(doubts, index=False) or "none"),
            "calibration": model.calibrator.kind,
            "version": model.version,
            **_record(context, loop.settings(), model, figures),
        }
    )


def _record(
    context: dg.AssetExecutionContext,
    settings: LoopSettings,
    model: QualityModel,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """The fit as an MLflow run. An MLflow that is down costs the record, not the score."""
    target = settings.mlflow_target() | {"experiment": "loop-quality"}
    tags = {"dagster_run_id": context.run.run_id}
    tracking = Tracking.model_validate(target | {"tags": tags})
    try:
        with few_retries(tracking.tracking_uri):
            run_id = record_fit(
                tracking,
                model.version,
                name=model.title(),
                metrics=model.metrics(),
                figures={f"{name}.png": figure for name, figure in figures.items()},
                details={"model.json": model.model_dump(mode="json")},
            )
    except TrackingDown as error:
        context.log.warning(str(error))
        return {"mlflow": f"not recorded: {error}"}
    return {"mlflow_run": run_id}


@dg.asset_check(asset=quality_model)
def score_can_be_believed(loop: Loop) -> dg.AssetCheckResult:
    """The score says good as often as people do, to within ten points, and tells good from bad.

    **If it fails,** it only warns. The score is off by more than ten points (ECE), or it hardly
    tells good answers from bad ones (AUC under 0.6); then no threshold is promised.

    **What to do:** review more if there are under a few hundred reviews. Otherwise the signals are
    too weak: log what users do with the answers, and give the traces their contracts.

    **Read more** in `docs/concepts/quality.md`.
    """
    stored = newest_quality_model(loop.engine())
    figures = stored["model"]["figures"] if stored else {}
    believed = bool(figures) and figures["ece"] <= MAX_ECE and figures["auc"] >= MIN_AUC
    return dg.AssetCheckResult(
        passed=believed,
        severity=dg.AssetCheckSeverity.WARN,
        description=stored["reason"] if stored else "no quality model yet",
        metadata={name: figures[name] for name in ("ece", "brier", "auc") if name in figures},
    )


@dg.asset(deps=[trace_log], group_name="labels", kinds={"openai"})
def judge_verdicts(loop: Loop) -> dg.MaterializeResult:
    """What a language model says about a sample of answers: a signal, never a label.

    **When to run it:** the job `ask_judge`, by hand, if LOOP_JUDGE_URL names such a model. Each
    answer is asked about once; `usd` is what it cost.

    **If it fails,** URL, model or key is wrong, and the message says which. Verdicts that came in
    before are kept.

    **Read more** in `docs/concepts/hallucination.md`.
    """
    settings = loop.settings()
    if (judge := judge_of(settings)) is None:
        return dg.MaterializeResult(metadata={"judge": "none: set LOOP_JUDGE_URL and its model"})
    done = judge_sample(loop.engine(), judge, rate=settings.judge_rate, prices=settings.prices)
    against = quality_inputs(loop.engine()).agreement
    people = (
        text_list([in_words(one) for one in against]) or "no answer has been judged and reviewed"
    )
    return dg.MaterializeResult(
        metadata=done.model_dump(exclude_none=True)
        | {"says": str(done), "with_people": dg.MetadataValue.md(people)}
    )
