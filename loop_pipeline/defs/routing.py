"""Routing: who may answer what, with a promise for each task group."""

from typing import Any

import dagster as dg
import pandas as pd

from loop_pipeline.artifacts import embedder_path, policy_folder
from loop_pipeline.costs.attribution import student_usd_per_request
from loop_pipeline.costs.prices import PRICES_DATE
from loop_pipeline.defs.groups import task_groups
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.serving import vllm_deployment
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.groups.embedding.model_embedder import open_embedder
from loop_pipeline.groups.model_comparison import frontier_usd_by_group
from loop_pipeline.rollout.commands import tell
from loop_pipeline.rollout.release import (
    in_force,
    introduce,
    student_of,
    without_canary,
)
from loop_pipeline.routing.calibration_rows import held_out_answers, other_models, versions_of
from loop_pipeline.routing.frontier_only import frontier_only
from loop_pipeline.routing.off_policy_gate import OffPolicyReport, check
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_fit import NotEnoughRows, check_on_gold, fit_policy
from loop_pipeline.routing.router import Router
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.store.checkpoints import adapter_name, newest_checkpoint
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import refused_student, spent_recalibrations, why_refused
from loop_pipeline.store.tables import GroupMemberRow, TaskGroupRow
from loop_pipeline.store.traces import read_traces


@dg.asset(
    deps=[vllm_deployment, task_groups],
    group_name="routing",
    kinds={"json"},
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=pd.Timedelta(days=8)),
)
def routing_policy(loop: Loop) -> dg.MaterializeResult:
    """The policy bundle in force: per task group student or frontier, threshold, bound and cost.

    A new student begins as a canary beside it, in shadow, unless LOOP_ROLLOUT is direct. If the
    first student was refused, every group goes to the frontier.
    """
    engine, settings = loop.engine(), loop.settings()
    folder, about = policy_folder(settings), {}
    if student := refused_student(engine):
        staged = False
        fitted = _frontier_only(loop, f"the student was refused: {why_refused(student)}")
    else:
        fitted, judged = _fitted(loop)
        if not judged.passed:
            raise dg.Failure(f"the policy in force stays: {judged.reason}", allow_retries=False)
        staged = settings.rollout == "staged"
        about["judged_on_logs"] = dg.MetadataValue.md("\n".join(f"- {x}" for x in judged.sentences))
    bundle = introduce(engine, folder, fitted, staged=staged)
    about |= _describe(bundle, str(folder / f"{bundle.sha256[:16]}.json"))
    about["mlflow"] = tell(engine, settings).strip() or "told"
    return dg.MaterializeResult(data_version=dg.DataVersion(bundle.sha256), metadata=about)


def _surroundings(loop: Loop) -> tuple[Groups, dict[str, Any]]:
    """The task groups, and what every policy says of what runs beside the student."""
    engine, settings = loop.engine(), loop.settings()
    groups = Groups.from_rows(read(engine, TaskGroupRow))
    if groups is None:
        raise dg.Failure("no task groups yet: materialize task_groups", allow_retries=False)
    traces, members = read_traces(engine, producer="frontier"), read(engine, GroupMemberRow)
    return groups, {
        "target_agreement": settings.target_agreement,
        "delta": settings.delta,
        "frontier": {"model": str(traces["model"].mode().iloc[0])},
        "costs": {
            "frontier_usd_per_request": frontier_usd_by_group(traces, members),
            "student_usd_per_request": student_usd_per_request(
                settings.server_hourly_usd, settings.requests_per_hour
            ),
            "prices": PRICES_DATE,
        },
        "versions": versions_of(settings),
        "embedder_path": f"../embedders/{embedder_path(settings, groups.embedder_version).name}",
    }


def _frontier_only(loop: Loop, reason: str) -> PolicyBundle:
    groups, around = _surroundings(loop)
    return frontier_only(groups, reason=reason, **around)


def _fitted(loop: Loop) -> tuple[PolicyBundle, OffPolicyReport]:
    """A policy for the newest approved student, and what logged requests say about it."""
    engine, settings = loop.engine(), loop.settings()
    checkpoint, now = newest_checkpoint(engine, "approved"), in_force(engine)
    if checkpoint is None:
        raise dg.Failure("no approved checkpoint: the policy in force stays", allow_retries=False)
    groups, around = _surroundings(loop)
    name = checkpoint["checkpoint_id"]
    path = embedder_path(settings, groups.embedder_version)
    others = other_models(engine, open_embedder(path, settings.train_python))
    try:
        bundle = fit_policy(
            held_out_answers(engine, name),
            groups,
            student={"checkpoint_id": name, "adapter": adapter_name(name)},
            others=others,
            certificate_days=settings.certificate_days,
            previous=without_canary(engine, now) if now else None,
            challenger=now.canary.policy if now and now.canary else None,
            recalibrations=spent_recalibrations(engine),
            **around,
        )
    except NotEnoughRows as error:
        raise dg.Failure(f"the policy in force stays: {error}", allow_retries=False) from error
    return bundle, check(engine, bundle, others)


def _describe(bundle: PolicyBundle, path: str) -> dict[str, Any]:
    columns = ["name", "arm", "threshold", "n", "coverage", "agreement", "agreement_lower"]
    table = pd.DataFrame([g.model_dump() for g in bundle.groups])
    rows = int(table["n"].sum())
    covered = table.loc[table["arm"] == "student", "accepted"].sum()
    return {
        "bundle": dg.MetadataValue.path(path),
        "sha256": bundle.sha256,
        "certified_coverage": float(covered / rows) if rows else 0.0,
        "groups_with_student": int((table["arm"] == "student").sum()),
        "recalibration": bundle.recalibration,
        "expires": bundle.expires or "never",
        "canary": f"{bundle.canary.policy.student['adapter']}, stage {bundle.canary.stage}"
        if bundle.canary
        else "none",
        "groups": dg.MetadataValue.md(table[[*columns, "reason"]].to_markdown(index=False)),
    }


@dg.asset_check(asset=routing_policy, blocking=True)
def policy_keeps_its_promise(loop: Loop) -> dg.AssetCheckResult:
    """On gold requests, which nothing was fitted on, no group is provably below its promise."""
    engine = loop.engine()
    bundle = in_force(engine)
    if bundle is None:
        return dg.AssetCheckResult(passed=False, description="no policy is in force")
    if not student_of(bundle):
        return dg.AssetCheckResult(
            passed=True, description="no student serves: nothing is promised"
        )
    path = embedder_path(loop.settings(), bundle.embedder_version)
    others = other_models(engine, open_embedder(path)) if bundle.others else []
    parts = {"champion": bundle} | ({"canary": bundle.canary.policy} if bundle.canary else {})
    gold = pd.concat(
        [
            check_on_gold(policy, held_out_answers(engine, student_of(policy)), others).assign(
                who=who
            )
            for who, policy in parts.items()
        ]
    )
    groups = gold[(gold["group_id"] != "all") & (gold["served"] > 0)]
    good = (groups["agreement"] * groups["served"]).round().astype(int)
    level = 1 - 2 * bundle.delta / max(len(groups), 1)
    upper = [clopper_pearson(k, n, level)[1] for k, n in zip(good, groups["served"], strict=True)]
    broken = groups[[limit < bundle.target_agreement for limit in upper]]
    return dg.AssetCheckResult(
        passed=broken.empty,
        description=f"broken for: {', '.join(broken['who'] + ' ' + broken['name'])}"
        if len(broken)
        else None,
        metadata={"gold": dg.MetadataValue.md(gold.to_markdown(index=False))},
    )


@dg.asset_check(asset=routing_policy, blocking=True)
def router_loads_the_policy(loop: Loop) -> dg.AssetCheckResult:
    """A router reads the bundle from disk, digest and embedder checked, and decides a request."""
    bundle, settings = in_force(loop.engine()), loop.settings()
    if bundle is None:
        return dg.AssetCheckResult(passed=False, description="no policy is in force")
    running = versions_of(settings)
    router = Router.load(policy_folder(settings) / f"{bundle.sha256[:16]}.json", running=running)
    traces = read_traces(loop.engine(), split="gold", limit=200)
    arms = [
        router.decide(messages, prompt_id).arm
        for messages, prompt_id in zip(traces["messages"], traces["prompt_id"], strict=True)
    ]
    return dg.AssetCheckResult(
        passed=bool(arms),
        metadata={"decided": len(arms), "student": arms.count("student")}
        | ({"void": void} if (void := bundle.void_because(running)) else {}),
    )
