"""Labels: what a day of traces teaches, and how far that can be trusted."""

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.traces import ONE_RUN, TRACE_DAYS, count_by_day, trace_log
from loop_pipeline.labels.hallucination.detector import flag_hallucinations
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.quality import QualityModel, fit_quality, review_verdicts, score_quality
from loop_pipeline.labels.review import draw_reviews, review_probability
from loop_pipeline.labels.signals import signals
from loop_pipeline.report.plots import daily_counts_figure, plot_png_markdown, threshold_figure
from loop_pipeline.store.queries import (
    newest_quality_model,
    read,
    read_feedback,
    read_traces,
    records,
    upsert,
)
from loop_pipeline.store.tables import LabeledPairRow, QualityModelRow, ReviewItemRow

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


@dg.asset(deps=[trace_log], group_name="labels", kinds={"pandas"}, code_version="1")
def review_queue(loop: Loop) -> dg.MaterializeResult:
    """Traces drawn for human review, each with the probability it was drawn with."""
    engine, rate = loop.engine(), loop.settings().review_rate
    traces = read_traces(engine, producer="frontier")
    evidence = signals(traces, read_feedback(engine), flag_hallucinations(traces))
    already = set(read(engine, ReviewItemRow, columns=["prompt_id"])["prompt_id"])
    drawn = draw_reviews(traces, evidence, seed=7, base_rate=rate, already=already)
    now = pd.Timestamp.now(tz="UTC").to_pydatetime()
    with engine.begin() as connection:
        upsert(
            connection,
            ReviewItemRow,
            [r | {"status": "open", "drawn_at": now} for r in records(drawn)],
        )
    return dg.MaterializeResult(
        metadata={"dagster/row_count": len(already) + len(drawn), "new": len(drawn)}
    )


@dg.asset(deps=[trace_log, review_queue], group_name="labels", kinds={"scikitlearn"})
def quality_model(loop: Loop) -> dg.MaterializeResult:
    """What P(good) is made of, fitted on reviews, and the threshold that keeps its promise."""
    engine, settings = loop.engine(), loop.settings()
    traces, feedback = read_traces(engine), read_feedback(engine)
    verdicts = review_verdicts(feedback)
    drawn = read(engine, ReviewItemRow, columns=["prompt_id", "p_review"]).set_index("prompt_id")
    evidence = signals(traces, feedback, flag_hallucinations(traces))
    model = fit_quality(
        evidence,
        verdicts,
        _chance(drawn["p_review"], evidence, settings.review_rate) if len(drawn) else None,
        target_precision=settings.target_precision,
        delta=settings.delta,
    )
    row = {
        "version": model.version,
        "created_at": pd.Timestamp.now(tz="UTC").to_pydatetime(),
        "labels": model.n_labels,
        "model": model.model_dump(mode="json"),
        "threshold": model.threshold,
        "reason": model.reason,
    }
    with engine.begin() as connection:
        upsert(connection, QualityModelRow, [row])
    return dg.MaterializeResult(metadata=_describe(model))


def _chance(drawn_with: pd.Series, evidence: pd.DataFrame, rate: float) -> pd.Series:
    # A trace enters once either of its draws took it: late feedback raises the chance.
    now = review_probability(evidence, base_rate=rate).reindex(drawn_with.index)
    return pd.concat([drawn_with.astype(float), now], axis=1).max(axis=1)


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(n) for value, n in values.value_counts().items()}


def _describe(model: QualityModel) -> dict[str, dg.MetadataValue | str | int | float]:
    weights = pd.DataFrame({"signal": model.columns, "weight": model.coef})
    facts: dict[str, dg.MetadataValue | str | int | float] = {
        "labels": model.n_labels,
        "reason": model.reason,
        "version": model.version,
        "weights": dg.MetadataValue.md(weights.to_markdown(index=False) or "none"),
    }
    for name in ("threshold", "ece", "brier", "auc"):
        if (value := getattr(model, name)) is not None:
            facts[name] = float(value)
    if model.curve:
        figure = threshold_figure(model.curve, model.threshold)
        facts["threshold_curve"] = dg.MetadataValue.md(plot_png_markdown(figure))
    return facts


@dg.asset(**_DAILY, deps=[quality_model], kinds={"pandas"}, code_version="1")
def quality_scores(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """P(good) of every answer: a person's verdict where there is one, else the fitted score."""
    engine = loop.engine()
    feedback = read_feedback(engine, days=context.partition_keys)
    stored = newest_quality_model(engine)
    model = QualityModel.model_validate(stored["model"]) if stored else None
    scores = score_quality(
        model, signals(raw_traces, feedback, hallucination_flags), review_verdicts(feedback)
    ).merge(raw_traces[["prompt_id", "day"]], on="prompt_id")
    count_by_day(context, scores[["day"]].assign(by_people=scores["origin"] == "human"))
    return dg.MaterializeResult(
        value=scores,
        metadata={
            "scored_by": dg.MetadataValue.json(_counts(scores["origin"])),
        },
    )


@dg.asset(**_DAILY, kinds={"pandas"}, code_version="1")
def labeled_pairs(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
    quality_scores: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """What a trace teaches: an answer to learn, a pair to prefer, one to avoid, or nothing."""
    engine = loop.engine()
    stored = newest_quality_model(engine)
    pairs = label_pairs(
        raw_traces,
        read_feedback(engine, days=context.partition_keys),
        hallucination_flags,
        quality_scores.drop(columns="day"),
        threshold=stored["threshold"] if stored else None,
    )
    earlier = read(engine, LabeledPairRow, columns=["day", "kind"])
    counts = pd.concat([earlier[~earlier["day"].isin(pairs["day"])], pairs[["day", "kind"]]])
    kinds = {kind: pairs["kind"] == kind for kind in ("sft", "dpo", "kto_pos", "kto_neg")}
    count_by_day(context, pairs[["day"]].assign(**kinds))
    return dg.MaterializeResult(
        value=pairs,
        metadata={
            "reasons": dg.MetadataValue.md(
                pairs["reason"].value_counts().head(15).to_markdown() or "none"
            ),
            "by_day": dg.MetadataValue.md(plot_png_markdown(daily_counts_figure(counts))),
        },
    )


@dg.asset_check(asset="labeled_pairs", partitions_def=TRACE_DAYS, blocking=True)
def pairs_are_unique(labeled_pairs: pd.DataFrame) -> dg.AssetCheckResult:
    """The same pair is never learned twice."""
    duplicates = int(labeled_pairs["pair_id"].duplicated().sum())
    return dg.AssetCheckResult(passed=duplicates == 0, metadata={"duplicates": duplicates})


@dg.asset_check(
    asset="labeled_pairs",
    partitions_def=TRACE_DAYS,
    additional_ins={name: dg.AssetIn(name) for name in ("raw_traces", "hallucination_flags")},
    blocking=True,
)
def positives_are_clean(
    raw_traces: pd.DataFrame, hallucination_flags: pd.DataFrame, labeled_pairs: pd.DataFrame
) -> dg.AssetCheckResult:
    """No flagged answer and no unverified answer of a student is ever learned as it is."""
    logged = raw_traces.merge(hallucination_flags[["prompt_id", "flag"]], on="prompt_id")
    positive = labeled_pairs[labeled_pairs["kind"] == "sft"].merge(logged, on="prompt_id")
    unedited = positive[positive["chosen"] == positive["output"]]
    bad = unedited[unedited["flag"].astype(bool)]
    return dg.AssetCheckResult(
        passed=bad.empty,
        metadata={"bad": len(bad), "prompt_ids": bad["prompt_id"].head(10).tolist()},
    )
