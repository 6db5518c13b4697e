"""Traces: the days of traffic that the loop learns from."""

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.store.traces import read_feedback, read_traces

TRACE_DAYS = dg.DailyPartitionsDefinition(start_date=load_settings().first_day.isoformat())
# Days are cheap and independent of each other: a backfill is one run.
ONE_RUN = dg.BackfillPolicy.single_run()


def count_by_day(context: dg.AssetExecutionContext, rows: pd.DataFrame) -> None:
    """Give each day's materialization its own figures: a backfill is one run over many days.

    Args:
        context: of the run.
        rows: column ``day``, and a column for each further figure, summed up by day.
    """
    rows = rows.assign(**{"dagster/row_count": 1})
    totals = rows.groupby("day").sum().astype(float)
    for day in context.partition_keys:
        known = totals.loc[day].to_dict() if day in totals.index else {"dagster/row_count": 0}
        figures = {str(name): value for name, value in known.items()}
        figures["dagster/row_count"] = int(figures["dagster/row_count"])
        context.add_asset_metadata(figures, partition_key=day)


trace_log = dg.AssetSpec(
    "trace_log",
    group_name="traces",
    kinds={"sql"},
    description="Where traces arrive: `loop import FILE` puts JSON lines into the store.",
)


@dg.asset(
    partitions_def=TRACE_DAYS,
    backfill_policy=ONE_RUN,
    deps=[trace_log],
    group_name="traces",
    kinds={"sql", "pandas"},
    code_version="1",
)
def raw_traces(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """Requests and answers of the day as they were logged, one row per `prompt_id`."""
    engine = loop.engine()
    traces = read_traces(engine, days=context.partition_keys)
    feedback = read_feedback(engine, days=context.partition_keys)
    by_model = traces.groupby(["model", "producer"], as_index=False).agg(
        requests=("prompt_id", "size"), cost_usd=("cost_usd", "sum")
    )
    reacted = traces["prompt_id"].isin(set(feedback["prompt_id"]))
    count_by_day(
        context, traces[["day"]].assign(cost_usd=traces["cost_usd"], with_feedback=reacted)
    )
    return dg.MaterializeResult(
        metadata={
            "simulated": bool(traces["simulated"].any()),
            "quarantined_lines_in_total": count(engine, QuarantineRow, prompt_id=None),
            "by_model": dg.MetadataValue.md(by_model.to_markdown(index=False)),
        },
    )


@dg.asset_check(asset=raw_traces, partitions_def=TRACE_DAYS)
def few_lines_are_quarantined(loop: Loop) -> dg.AssetCheckResult:
    """At most 1% of what was handed in could not be read."""
    held = read(loop.engine(), QuarantineRow, columns=["prompt_id", "source", "line", "reason"])
    # Feedback that waits for its trace is not a bad line.
    early = held["prompt_id"].notna()
    bad = held[~early].drop(columns="prompt_id")
    share = len(bad) / max(len(bad) + count(loop.engine(), TraceRow), 1)
    return dg.AssetCheckResult(
        passed=share <= 0.01,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "quarantined": len(bad),
            "feedback_waiting_for_its_trace": int(early.sum()),
            "first": dg.MetadataValue.md(bad.head(10).to_markdown(index=False) or "none"),
        },
    )


@dg.asset_check(asset=raw_traces, partitions_def=TRACE_DAYS, blocking=True)
def traces_can_be_learned_from(raw_traces: pd.DataFrame) -> dg.AssetCheckResult:
    """Every trace has a request, an answer and a producer that the loop knows."""
    known = raw_traces["producer"].isin(["frontier", "student", "human"])
    bad = raw_traces[~known | (raw_traces["messages"].map(len) == 0)]
    return dg.AssetCheckResult(
        passed=bad.empty,
        metadata={"bad": len(bad), "prompt_ids": bad["prompt_id"].head(10).tolist()},
    )
