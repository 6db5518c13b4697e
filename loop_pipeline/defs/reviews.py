"""Reviews: what people look at, how far they can be trusted, and the score fitted to their word."""

from typing import Any

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.traces import trace_log
from loop_pipeline.labels.hallucination.llm_judge import judge_of, judge_sample
from loop_pipeline.labels.quality.inputs import evidence, fit_evidence
from loop_pipeline.labels.quality.model import QualityModel
from loop_pipeline.labels.quality.thresholds import MIN_AUC
from loop_pipeline.labels.reviews.doubtful import doubtful
from loop_pipeline.labels.reviews.queue import describe, take_reviews_in, update_queue
from loop_pipeline.report.plots import (
    plot_png_markdown,
)
from loop_pipeline.report.quality import promise_table, quality_figures
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import read, upsert
from loop_pipeline.store.tables import (
    QualityModelRow,
    ReviewerRow,
    ReviewItemRow,
)
from loop_pipeline.store.tracking import Tracking, TrackingDown, few_retries, record_fit
from loop_pipeline.store.training_data import newest_quality_model

MAX_ECE = 0.1


@dg.asset(deps=[trace_log, "trace_signals"], group_name="labels", kinds={"pandas"})
def review_queue(loop: Loop) -> dg.MaterializeResult:
    """Who is drawn for human review, with which chance and why; every trace has its chance."""
    engine, settings = loop.engine(), loop.settings()
    looked_at = update_queue(engine, base_rate=settings.review_rate)
    items = read(engine, ReviewItemRow, columns=["status"])
    states = items["status"].value_counts()
    drawn = looked_at[looked_at["status"] == "open"]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(items),
            "looked_at": len(looked_at),
            "drawn": len(drawn),
            "states": dg.MetadataValue.md(states.to_markdown() or "none"),
            "reasons": dg.MetadataValue.md(
                drawn["reason"].value_counts().head(12).to_markdown() or "none"
            ),
            "plan": dg.MetadataValue.md("\n".join(f"- {s}" for s in describe(engine, settings))),
        }
    )


@dg.asset(deps=[trace_log], group_name="labels", kinds={"pandas"})
def reviewers(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """How far each reviewer can be trusted, from answers that others reviewed as well."""
    engine = loop.engine()
    for warning in take_reviews_in(engine):
        context.log.warning(warning)
    crew = read(engine, ReviewerRow)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(crew),
            "reviewers": dg.MetadataValue.md(crew.to_markdown(index=False, floatfmt=".2f")),
        }
    )


@dg.asset_check(asset=reviewers)
def reviewers_can_be_relied_on(loop: Loop) -> dg.AssetCheckResult:
    """Nobody answers like a coin, or clearly worse than the others."""
    warnings = read(loop.engine(), ReviewerRow)["warning"].dropna().tolist()
    return dg.AssetCheckResult(
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(warnings) or None,
    )


@dg.asset(
    deps=["trace_signals", review_queue, reviewers],
    group_name="labels",
    kinds={"scikitlearn", "mlflow"},
)
def quality_model(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """What P(good) is made of, fitted on reviews, and thresholds that keep their promise."""
    engine, settings = loop.engine(), loop.settings()
    known = evidence(engine)
    model, out_of_fold = fit_evidence(known, settings)
    row = {
        "version": model.version,
        "created_at": pd.Timestamp.now(tz="UTC").to_pydatetime(),
        "labels": model.n_labels,
        "model": model.model_dump(mode="json"),
        "threshold": min(
            (p.threshold for p in model.promises.values() if p.threshold), default=None
        ),
        "reason": model.reason,
    }
    with engine.begin() as connection:
        upsert(connection, QualityModelRow, [row])
    doubts = doubtful(known.verdicts, out_of_fold)
    take_reviews_in(engine, doubts)
    figures = quality_figures(model)
    facts = _describe(model, figures) | _record(context, settings, model, figures)
    facts["doubtful_verdicts"] = dg.MetadataValue.md(doubts.to_markdown(index=False) or "none")
    return dg.MaterializeResult(metadata=facts)


@dg.asset_check(asset=quality_model)
def score_can_be_believed(loop: Loop) -> dg.AssetCheckResult:
    """The score says good as often as people do, to within ten points, and tells good from bad."""
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
    """What a language model says about a sample of answers: a signal, never a label."""
    settings = loop.settings()
    if (judge := judge_of(settings)) is None:
        return dg.MaterializeResult(metadata={"judge": "none: set LOOP_JUDGE_URL and its model"})
    done = judge_sample(loop.engine(), judge, rate=settings.judge_rate)
    return dg.MaterializeResult(metadata=done.model_dump(exclude_none=True) | {"says": str(done)})


def _describe(model: QualityModel, figures: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "labels": model.n_labels,
        "reason": model.reason,
        "version": model.version,
        "calibration": model.calibrator.kind,
        "thresholds": dg.MetadataValue.md(promise_table(model.promises)),
        "quality": dg.MetadataValue.md(
            pd.DataFrame({n or "all": q.model_dump() for n, q in model.quality.items()})
            .T.reset_index(names="task")
            .to_markdown(index=False, floatfmt=".3f")
        ),
    }
    if model.usable:
        weights = pd.DataFrame(model.stack.weights, index=pd.Index(model.stack.columns))
        weights = weights.rename(columns={"": "all tasks"}).sort_values("all tasks", key=abs)[::-1]
        facts["weights_table"] = dg.MetadataValue.md(weights.to_markdown(floatfmt="+.2f"))
    facts |= {
        name: model.figures[name] for name in ("ece", "brier", "auc") if name in model.figures
    }
    plots = {n: dg.MetadataValue.md(plot_png_markdown(f)) for n, f in figures.items()}
    return facts | plots


def _record(
    context: dg.AssetExecutionContext,
    settings: LoopSettings,
    model: QualityModel,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """The fit as an MLflow run. An MLflow that is down costs the record, not the score."""
    target = settings.mlflow_target() | {"experiment": "loop-quality"}
    tracking = Tracking.model_validate(target | {"tags": {"dagster_run_id": context.run_id}})
    metrics = {name: model.figures[name] for name in ("ece", "brier", "auc") if model.figures}
    metrics |= {"labels": float(model.n_labels)}
    for name, promise in model.promises.items():
        if promise.threshold is not None:
            metrics[f"threshold/{name}"] = promise.threshold
    for name, mean in model.quality.items():
        metrics |= {f"quality/{name or 'all'}": mean.mean, f"quality_low/{name or 'all'}": mean.low}
    try:
        with few_retries(tracking.tracking_uri):
            run_id = record_fit(
                tracking,
                model.version,
                metrics=metrics,
                figures={f"{name}.png": figure for name, figure in figures.items()},
                details={"model.json": model.model_dump(mode="json")},
            )
    except TrackingDown as error:
        context.log.warning(str(error))
        return {"mlflow": f"not recorded: {error}"}
    return {"mlflow_run": run_id}
