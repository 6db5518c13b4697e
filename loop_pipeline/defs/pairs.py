"""What each trace teaches, day by day, and whether that is clean enough to learn from."""

import dagster as dg
import pandas as pd

from loop_pipeline.answers.said import said
from loop_pipeline.defs.labels import DAILY
from loop_pipeline.defs.resources import Loop, traces_seen_by
from loop_pipeline.defs.traces import TRACE_DAYS, count_by_day
from loop_pipeline.labels.hallucination.tiers import tiers_of
from loop_pipeline.labels.pairs import label_pairs
from loop_pipeline.labels.reviews.reviewers import relied_on, verdicts
from loop_pipeline.report.pictures.group_plots import group_counts_figure
from loop_pipeline.report.pictures.plots import daily_counts_figure, plot_png_markdown
from loop_pipeline.store.database import read
from loop_pipeline.store.tables import (
    GroupMemberRow,
    LabeledPairRow,
    ReviewerRow,
    TaskGroupRow,
    TraceRow,
)
from loop_pipeline.store.traces import read_feedback
from loop_pipeline.traces.shown_text import text_table


@dg.asset(
    **DAILY,
    ins={"raw_traces": traces_seen_by("quality_scores")},
    kinds={"pandas"},
    code_version="2",
)
def labeled_pairs(
    context: dg.AssetExecutionContext,
    loop: Loop,
    raw_traces: pd.DataFrame,
    hallucination_flags: pd.DataFrame,
    quality_scores: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    """What a trace teaches: an answer to learn, a pair to prefer, one to avoid, or nothing.

    Kinds: `sft` is an answer to learn from, `dpo` a pair of a better and a worse one, `kto_pos` and
    `kto_neg` are single answers that people wanted or did not want.

    **When to run it:** the jobs `label_traces` and `score_traces` do. The table of reasons says why
    answers teach something or nothing.

    **If it fails,** the message names what could not be read; run the day again.

    **Read more** in `docs/concepts/quality.md`.
    """
    engine = loop.engine()
    feedback = read_feedback(engine, days=context.partition_keys)
    judged = relied_on(verdicts(feedback, read(engine, ReviewerRow)))
    scores = quality_scores.drop(columns="day")
    pairs = label_pairs(
        raw_traces,
        feedback,
        hallucination_flags,
        scores,
        judged,
        tiers=tiers_of(loop.settings()),
    )
    kinds = {kind: pairs["kind"] == kind for kind in ("sft", "dpo", "kto_pos", "kto_neg")}
    count_by_day(context, pairs[["day"]].assign(**kinds))
    reasons = pairs["reason"].str.replace(r"(score|distance) [\d.]+", r"\1 ...", regex=True)
    return dg.MaterializeResult(
        value=pairs,
        metadata={
            **_plots(loop, pairs),
            "reasons": dg.MetadataValue.md(text_table(reasons.value_counts().head(15)) or "none"),
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
    """The same pair is never learned twice.

    **If it fails,** nothing after it runs for these days. It is a fault of this software.

    **What to do:** report it with the check's metadata.

    **Read more** in `docs/concepts/quality.md`.
    """
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
    """Only a reviewer's verdict lets a flagged answer, or one of a student, be learned as it is.

    **If it fails,** a student could learn an invented answer, or its own mistakes. Nothing after it
    runs for these days. It is a fault of this software.

    **What to do:** report it with the prompt ids; `loop follow PROMPT_ID` shows how each came
    about.

    **Read more** in `docs/concepts/quality.md`.
    """
    facts = raw_traces[["prompt_id", "output", "producer"]]
    facts = facts.merge(hallucination_flags[["prompt_id", "flag"]], on="prompt_id")
    facts = facts.merge(quality_scores[["prompt_id", "origin"]], on="prompt_id")
    positive = labeled_pairs[labeled_pairs["kind"] == "sft"].merge(facts, on="prompt_id")
    unedited = positive[positive["chosen"] == positive["output"].map(said)]
    doubtful = unedited["flag"].astype(bool) | (unedited["producer"] == "student")
    bad = unedited[doubtful & (unedited["origin"] != "human")]
    return dg.AssetCheckResult(
        passed=bad.empty,
        metadata={"bad": len(bad), "prompt_ids": bad["prompt_id"].head(10).tolist()},
    )
