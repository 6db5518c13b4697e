"""Groups: what the traffic is about, and which model does what best."""

from typing import Any

import dagster as dg
import pandas as pd

from loop_pipeline.artifacts import embedder_path
from loop_pipeline.costs.attribution import student_usd_per_request
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.traces import trace_log
from loop_pipeline.groups.best_model import best_models
from loop_pipeline.groups.clustering.fit import Groups, fit_groups
from loop_pipeline.groups.embedding.ask_encoder import EmbedderError
from loop_pipeline.groups.embedding.model_embedder import (
    TextEmbedder,
    fit_embedder,
    open_embedder,
    still_holds,
)
from loop_pipeline.groups.embedding.vector_store import newest_and_before, vectors_of
from loop_pipeline.groups.lineage import write_groups
from loop_pipeline.groups.members import member_rows
from loop_pipeline.groups.model_comparison import (
    group_statistics,
    held_out_rows,
    inferred_verdicts,
    logged_rows,
)
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.labels.quality.inputs import quality_inputs, reviewed
from loop_pipeline.monitoring.risk_watch import NOVELTY
from loop_pipeline.report.pictures.group_plots import best_model_figure, cluster_figure
from loop_pipeline.report.pictures.plots import plot_png_markdown
from loop_pipeline.settings import LoopSettings
from loop_pipeline.stats.mmd import ALARM, novelty
from loop_pipeline.store.checkpoints import adapter_name, newest_checkpoint
from loop_pipeline.store.database import read, records, replace_all
from loop_pipeline.store.tables import (
    GroupMemberRow,
    GroupModelStatsRow,
    HallucinationFlagRow,
    QualityScoreRow,
    StudentAnswerRow,
    TaskGroupRow,
)
from loop_pipeline.store.traces import read_traces
from loop_pipeline.store.watch.alerts import raise_alert, resolve_alerts
from loop_pipeline.traces.messages import request_text
from loop_pipeline.traces.shown_text import text_table

LEAST_ASSIGNED = 0.9


@dg.asset(deps=[trace_log], group_name="groups", kinds={"scikitlearn"}, code_version="2")
def task_groups(context: dg.AssetExecutionContext, loop: Loop) -> dg.MaterializeResult:
    """Task groups: requests that are alike. A group is what gets a promise, or none.

    Ids survive: a group that stays keeps its id and its name, and the table of changes says what
    was born, split, merged or retired. Leaves are finer parts that are reported, not certified.

    **When to run it:** the job `regroup` does, weekly, after the first import, and after a new kind
    of request came in.

    **If it fails,** the groups before it stay in use. Without imported traffic there are none.

    **Read more** in `docs/concepts/groups.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    traces = _requests(loop)
    train = (traces["split"] == "train").to_numpy()
    previous = Groups.from_rows(read(engine, TaskGroupRow))
    embedder = _embedder(settings, previous, traces.loc[train, "text"].tolist())
    vectors, embedded = vectors_of(engine, embedder, traces)
    calibration_rows = traces.loc[traces["split"] == "calibration", "dedup_key"].nunique()
    groups = fit_groups(
        traces[train],
        embedder,
        previous=previous,
        calibration_rows=calibration_rows,
        seed=7,
        vectors=vectors[train],
    )
    members = member_rows(groups, traces, embedder, vectors)
    changes = groups.changes_since(previous)
    write_groups(engine, groups.to_rows(), members, changes)
    context.log.info(f"{embedded} of {len(traces)} requests were embedded now")
    return dg.MaterializeResult(metadata=_describe(groups, members, changes))


def _requests(loop: Loop) -> pd.DataFrame:
    """Frontier traces with text, the group they were in, whether they are new, and P(good)."""
    engine = loop.engine()
    traces = read_traces(engine, producer="frontier")
    if traces.empty:
        raise dg.Failure("no traces yet: `loop import FILE` brings them in", allow_retries=False)
    before = read(engine, GroupMemberRow, columns=["prompt_id", "group_id", "leaf_id"])
    scores = read(engine, QualityScoreRow, columns=["prompt_id", "score"])
    frame = traces.merge(before, on="prompt_id", how="left").merge(
        scores.rename(columns={"score": "quality"}), on="prompt_id", how="left"
    )
    return frame.assign(
        text=frame["messages"].map(request_text),
        new=~frame["prompt_id"].isin(before["prompt_id"]),
        quality=frame["quality"].astype(float),
    )


def _embedder(settings: LoopSettings, previous: Groups | None, texts: list[str]) -> TextEmbedder:
    """The embedder of the last fit if the setting still names it, else a new one."""
    access = settings.embedder_access()
    if previous:
        path = embedder_path(settings, previous.embedder_version)
        try:
            stored = open_embedder(path, settings.train_python, **access)
            same = stored.version == previous.embedder_version  # else of an older scheme
            if same and still_holds(stored, settings.embedder):
                return stored
        except (EmbedderError, OSError, ValueError) as error:
            # Its model is gone or another, or the file is damaged: the setting names what is next.
            dg.get_dagster_logger().warning(f"the embedder is fitted anew: {error}")
    python, key = settings.train_python, access["api_key"]
    embedder = fit_embedder(settings.embedder, texts, 7, python, api_key=key)
    path = embedder_path(settings, embedder.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    embedder.save(path)
    return embedder


def _describe(groups: Groups, members: pd.DataFrame, changes: list[Any]) -> dict[str, Any]:
    table = groups.to_rows()
    parents = table[table["parent_id"].isna()]
    names = parents[["group_id", "name", "task", "size", "status"]]
    leaves = table[table["parent_id"].notna() & (table["status"] == "active")]
    points = members.merge(names[["group_id", "name"]], on="group_id", how="left")
    told = pd.DataFrame(changes, columns=["kind", "from", "to", "reason"])
    unassigned = members["group_id"] == UNASSIGNED
    return {
        "dagster/row_count": len(groups.active),
        "requests": len(members),
        "unassigned_share": float(unassigned.mean()) if len(members) else 0.0,
        "leaves": len(leaves),
        "changes": len(told),
        "map": dg.MetadataValue.md(plot_png_markdown(cluster_figure(points))),
        "groups": dg.MetadataValue.md(text_table(names, index=False)),
        "parts": dg.MetadataValue.md(
            text_table(leaves[["parent_id", "group_id", "name", "size"]], index=False)
        ),
        "changes_table": dg.MetadataValue.md(
            text_table(told, index=False) if len(told) else "none"
        ),
    }


@dg.asset_check(asset=task_groups, blocking=True)
def groups_cover_the_traffic(loop: Loop) -> dg.AssetCheckResult:
    """At least nine in ten requests belong to a group; the others always go to the frontier.

    **If it fails,** too much traffic could never be answered by a student. Nothing after it runs.

    **What to do:** look at a few requests without a group (`loop groups list`). Often they have a
    new prompt template: run `regroup` again when it has traffic. A date or a name in the system
    prompt makes each text a template of its own: move it into the user's message.

    **Read more** in `docs/concepts/groups.md`.
    """
    members = read(loop.engine(), GroupMemberRow, columns=["group_id"])
    share = float((members["group_id"] != UNASSIGNED).mean()) if len(members) else 0.0
    return dg.AssetCheckResult(passed=share >= LEAST_ASSIGNED, metadata={"assigned_share": share})


@dg.asset_check(asset=task_groups)
def traffic_looks_as_before(loop: Loop) -> dg.AssetCheckResult:
    """The newest 500 requests could come from the same traffic as those before them.

    **If it fails,** it only warns: the traffic looks different. Certificates and groups stay as
    they are, and their promises are about traffic as it was. No conversation sets it off alone.

    **What to do:** look at the newest requests. If the traffic has really changed, run `regroup`,
    and `retrain` when enough of it is there.

    **Read more** in `docs/concepts/groups.md`.
    """
    engine = loop.engine()
    found = novelty(*newest_and_before(engine))
    same = found.p_value is None or found.p_value > ALARM
    # While it looks different, more is shadowed: see `monitoring/shadow_share.py`.
    if same:
        resolve_alerts(engine, NOVELTY, "traffic")
    else:
        raise_alert(engine, NOVELTY, "traffic", found.sentence)
    return dg.AssetCheckResult(
        passed=same,
        severity=dg.AssetCheckSeverity.WARN,
        description=found.sentence,
        metadata={k: v for k, v in found.model_dump().items() if v is not None},
    )


@dg.asset(
    # By its name: the evaluation's own module reads the groups.
    deps=[task_groups, dg.AssetKey("checkpoint_evaluation")],
    group_name="groups",
    kinds={"pandas"},
    code_version="2",
)
def group_model_stats(loop: Loop) -> dg.MaterializeResult:
    """Which model is best for which group: quality, agreement, cost and latency side by side.

    Only requests are compared that a coin drew, not those that a router picked.

    **When to run it:** the jobs `regroup` and `retrain` do.

    **If it fails,** nothing depends on it. **Read more** in `docs/concepts/groups.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    traces, members = read_traces(engine), read(engine, GroupMemberRow)
    flags = read(engine, HallucinationFlagRow, columns=["prompt_id", "flag"])
    known = reviewed(quality_inputs(engine), settings)
    rows, about = [logged_rows(traces, members)], {}
    if student := newest_checkpoint(engine, "approved"):
        name = student["checkpoint_id"]
        answers = read(engine, StudentAnswerRow, checkpoint_id=name, split=["calibration", "gold"])
        unit = student_usd_per_request(settings.server_hourly_usd, settings.requests_per_hour)
        about = {"model": adapter_name(name), "usd_per_request": unit}
        rows.append(held_out_rows(answers, traces, members, **about))
        about = {
            "student": about["model"],
            "inferred": inferred_verdicts(answers, traces, known.good),
        }
    stats = group_statistics(pd.concat(rows), flags, known, **about)
    with engine.begin() as connection:
        replace_all(connection, GroupModelStatsRow, records(stats))
    names = read(engine, TaskGroupRow, columns=["group_id", "name"])
    return dg.MaterializeResult(metadata=_compared(stats, names))


def _compared(stats: pd.DataFrame, names: pd.DataFrame) -> dict[str, Any]:
    best = best_models(stats, names)
    return {
        "dagster/row_count": len(stats),
        "models": int(stats["model"].nunique()),
        "groups": int(stats["group_id"].nunique()),
        "groups_with_a_clear_best": int(best["more_than_noise"].eq(True).sum()),
        "plot": dg.MetadataValue.md(plot_png_markdown(best_model_figure(stats, names))),
        "best": dg.MetadataValue.md(text_table(best, index=False)),
        "table": dg.MetadataValue.md(text_table(stats, index=False)),
    }
