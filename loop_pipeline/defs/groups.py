"""Groups: what the traffic is about, and which model does what best."""

from pathlib import Path

import dagster as dg
import pandas as pd

from loop_pipeline.costs.attribution import student_usd_per_request
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.traces import trace_log
from loop_pipeline.groups.clustering import Groups, fit_groups, member_rows
from loop_pipeline.groups.embedding import Embedder, request_text
from loop_pipeline.groups.stats import frontier_statistics, student_statistics
from loop_pipeline.labels.reviewers import relied_on, verdicts
from loop_pipeline.report.plots import cluster_figure, plot_png_markdown
from loop_pipeline.serving.vllm import adapter_name
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.queries import (
    newest_checkpoint,
    read,
    read_feedback,
    read_traces,
    records,
    replace_all,
)
from loop_pipeline.store.tables import (
    GroupMemberRow,
    GroupModelStatsRow,
    HallucinationFlagRow,
    ReviewerRow,
    StudentAnswerRow,
    TaskGroupRow,
)


def embedder_path(settings: LoopSettings, version: str) -> Path:
    """Where the embedder of a version lies."""
    return settings.artifacts / "embedders" / f"{version[:16]}.npz"


@dg.asset(deps=[trace_log], group_name="groups", kinds={"scikitlearn"}, code_version="1")
def task_groups(loop: Loop) -> dg.MaterializeResult:
    """Clusters of requests with ids that survive refits: the units that get a certificate."""
    engine, settings = loop.engine(), loop.settings()
    traces = read_traces(engine, producer="frontier")
    if traces.empty:
        raise dg.Failure("no traces yet: `loop import FILE` brings them in", allow_retries=False)
    traces = traces.assign(text=traces["messages"].map(request_text))
    train = traces[traces["split"] == "train"]
    previous = Groups.from_rows(read(engine, TaskGroupRow))
    if previous:
        embedder = Embedder.load(embedder_path(settings, previous.embedder_version))
    else:
        embedder = Embedder.fit(train["text"].tolist(), seed=7)
        path = embedder_path(settings, embedder.version)
        path.parent.mkdir(parents=True, exist_ok=True)
        embedder.save(path)
    calibration_rows = traces.loc[traces["split"] == "calibration", "dedup_key"].nunique()
    groups = fit_groups(
        train, embedder, previous=previous, calibration_rows=calibration_rows, seed=7
    )
    members = member_rows(groups, traces, embedder)
    with engine.begin() as connection:
        replace_all(connection, TaskGroupRow, records(groups.to_rows()))
        replace_all(connection, GroupMemberRow, records(members))
    names = groups.to_rows()[["group_id", "name", "task", "size", "status"]]
    points = members.merge(names[["group_id", "name"]], on="group_id", how="left")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(names),
            "unassigned": int((members["group_id"] == "unassigned").sum()),
            "groups": dg.MetadataValue.md(names.to_markdown(index=False)),
            "map": dg.MetadataValue.md(plot_png_markdown(cluster_figure(points))),
        },
    )


@dg.asset_check(asset=task_groups, blocking=True)
def groups_cover_the_traffic(loop: Loop) -> dg.AssetCheckResult:
    """At least nine in ten requests belong to a group; the others always go to the frontier."""
    members = read(loop.engine(), GroupMemberRow, columns=["group_id"])
    share = float((members["group_id"] != "unassigned").mean()) if len(members) else 0.0
    return dg.AssetCheckResult(passed=share >= 0.9, metadata={"assigned_share": share})


@dg.asset(deps=[task_groups], group_name="groups", kinds={"pandas"}, code_version="1")
def group_model_stats(loop: Loop) -> dg.MaterializeResult:
    """Which model is best for which group: quality, agreement, cost and latency side by side."""
    engine, settings = loop.engine(), loop.settings()
    traces, members = read_traces(engine), read(engine, GroupMemberRow)
    judged = verdicts(read_feedback(engine, kind="review"), read(engine, ReviewerRow))
    flags = read(engine, HallucinationFlagRow)
    parts = [frontier_statistics(traces, members, flags, relied_on(judged)["good"])]
    if student := newest_checkpoint(engine, "approved"):
        name = student["checkpoint_id"]
        answers = read(engine, StudentAnswerRow, checkpoint_id=name, split=["calibration", "gold"])
        unit = student_usd_per_request(settings.server_hourly_usd, settings.requests_per_hour)
        parts.append(
            student_statistics(answers, members, model=adapter_name(name), usd_per_request=unit)
        )
    stats = pd.concat([p for p in parts if len(p)], ignore_index=True)
    with engine.begin() as connection:
        replace_all(connection, GroupModelStatsRow, records(stats))
    shown = stats.drop(columns=["quality_low", "quality_high"])
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(stats),
            "table": dg.MetadataValue.md(shown.to_markdown(index=False)),
        }
    )
