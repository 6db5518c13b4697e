"""Traces: the days of traffic that the loop learns from."""

import dagster as dg
import pandas as pd

from loop_pipeline.defs.resources import Loop
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import count, read
from loop_pipeline.store.tables import QuarantineRow, TraceRow
from loop_pipeline.store.traces import read_feedback, read_traces
from loop_pipeline.store.unpriced_traces import unpriced_models, unpriced_remark
from loop_pipeline.traces.shown_text import text_table

# Today is one of them: live traffic can be labelled before its day is over, and is again after it.
TRACE_DAYS = dg.DailyPartitionsDefinition(
    start_date=load_settings().first_day.isoformat(), end_offset=1
)
# Days are cheap and independent of each other: a backfill is one run.
ONE_RUN = dg.BackfillPolicy.single_run()
MOST_QUARANTINED = 0.01


def count_by_day(context: dg.AssetExecutionContext, rows: pd.DataFrame) -> None:
    """Give each day's materialization its own figures: a backfill is one run over many days.

    Args:
        context: of the run.
        rows: a row for each thing that was written: column ``day``, and a column for each further
            figure, summed up by day. Of a boolean one the share is given as well (``NAME_share``).
    """
    days = rows.assign(**{"dagster/row_count": 1}).groupby("day")
    flags = rows.select_dtypes(bool).columns
    totals, shares = days.sum(), days[list(flags)].mean().add_suffix("_share")
    for day in context.partition_keys:
        figures: dict[str, int | float] = {"dagster/row_count": 0}
        if day in totals.index:
            figures |= {str(name): column[day].item() for name, column in totals.items()}
            figures |= {str(name): round(float(column[day]), 4) for name, column in shares.items()}
        context.add_asset_metadata(figures, partition_key=day)


trace_log = dg.AssetSpec(
    "trace_log",
    group_name="traces",
    kinds={"sql"},
    description="""Where traffic arrives: requests, answers, and what users did with them.

Nothing is run here. `loop import FILE` puts JSON lines into the store; the same file twice changes
nothing, and a line that cannot be read is kept in the table `quarantine` with the reason.

**Read more** in `docs/reference/trace-format.md`.""",
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
    """Requests and answers of the day as they were logged, one row per `prompt_id`.

    **When to run it:** the job `label_traces` does, once the day's traffic is imported. A day can
    be run again at any time and gives the same rows.

    **If it fails,** the store cannot be read; the error says where it looked.

    **Read more** in `docs/reference/trace-format.md`.
    """
    engine = loop.engine()
    traces = read_traces(engine, days=context.partition_keys)
    feedback = read_feedback(engine, days=context.partition_keys)
    by_model = traces.groupby(["model", "producer"], as_index=False).agg(
        requests=("prompt_id", "size"), priced=("cost_usd", "count"), cost_usd=("cost_usd", "sum")
    )
    by_model["unpriced"] = by_model["requests"] - by_model.pop("priced")
    reacted = traces["prompt_id"].isin(set(feedback["prompt_id"]))
    count_by_day(
        context,
        traces[["day"]].assign(
            cost_usd=traces["cost_usd"].astype(float),
            unpriced=traces["cost_usd"].isna().astype(int),
            with_feedback=reacted,
        ),
    )
    return dg.MaterializeResult(
        metadata={
            "quarantined_lines_in_total": count(engine, QuarantineRow, prompt_id=None),
            "simulated": bool(traces["simulated"].any()),
            "by_model": dg.MetadataValue.md(text_table(by_model, index=False)),
        },
    )


@dg.asset_check(asset=raw_traces, partitions_def=TRACE_DAYS)
def few_lines_are_quarantined(loop: Loop) -> dg.AssetCheckResult:
    """At most 1% of the lines that were handed in could not be read.

    **If it fails,** it only warns: what could be read is used, and the rest is missing everywhere.

    **What to do:** the check's table names file, line and reason. Correct the export and import the
    file again; lines that are there already are not doubled.

    **Read more** in `docs/reference/trace-format.md`.
    """
    held = read(loop.engine(), QuarantineRow, columns=["prompt_id", "source", "line", "reason"])
    # Feedback that waits for its trace is not a bad line.
    early = held["prompt_id"].notna()
    bad = held[~early].drop(columns="prompt_id")
    share = len(bad) / max(len(bad) + count(loop.engine(), TraceRow), 1)
    return dg.AssetCheckResult(
        passed=share <= MOST_QUARANTINED,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "quarantined_share": share,
            "quarantined": len(bad),
            "feedback_waiting_for_its_trace": int(early.sum()),
            "first": dg.MetadataValue.md(text_table(bad.head(10), index=False) or "none"),
        },
    )


@dg.asset_check(asset=raw_traces, partitions_def=TRACE_DAYS)
def answers_have_a_price(loop: Loop) -> dg.AssetCheckResult:
    """Of every answer of the frontier it is known what it cost.

    **If it fails,** it only warns: unpriced answers are in no cost figure, and no saving is claimed
    for them.

    **What to do:** name the price of each model of the table in `LOOP_PRICES_FILE`, then run
    `loop costs reprice FROM TO --fill`.

    **Read more** in `docs/concepts/costs.md`.
    """
    engine = loop.engine()
    models = unpriced_models(engine)
    table = pd.DataFrame(sorted(models.items()), columns=["model", "answers"])  # pyright: ignore[reportArgumentType]
    return dg.AssetCheckResult(
        passed=not models,
        severity=dg.AssetCheckSeverity.WARN,
        description=unpriced_remark(engine),
        metadata={
            "unpriced": sum(models.values()),
            "models": dg.MetadataValue.md(text_table(table, index=False) if models else "none"),
        },
    )


@dg.asset_check(asset=raw_traces, partitions_def=TRACE_DAYS, blocking=True)
def traces_can_be_learned_from(raw_traces: pd.DataFrame) -> dg.AssetCheckResult:
    """Every trace has a request, an answer and a producer that the loop knows.

    **If it fails,** nothing after it runs for these days.

    **What to do:** `loop import` lets no such line in, so another program wrote to the table
    `traces`. The check's metadata has the prompt ids; correct or delete those rows.

    **Read more** in `docs/reference/trace-format.md`.
    """
    known = raw_traces["producer"].isin(["frontier", "student", "human"])
    bad = raw_traces[~known | (raw_traces["messages"].map(len) == 0)]
    return dg.AssetCheckResult(
        passed=bad.empty,
        metadata={"bad": len(bad), "prompt_ids": bad["prompt_id"].head(10).tolist()},
    )
