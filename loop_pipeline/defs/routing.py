"""Routing: who may answer what, with a promise for each task group."""

from typing import Any

import dagster as dg
import pandas as pd

from loop_pipeline.artifacts import policy_folder
from loop_pipeline.confidence.ceiling import ceiling_words
from loop_pipeline.costs.unpriced import WHAT_TO_DO
from loop_pipeline.defs.groups import task_groups
from loop_pipeline.defs.resources import Loop
from loop_pipeline.defs.serving import vllm_deployment
from loop_pipeline.report.pictures.plots import plot_png_markdown, shares_figure
from loop_pipeline.rollout.commands import tell
from loop_pipeline.rollout.group_holds import (
    active_groups,
    carry_holds,
    lines_of_holds,
    release_certified,
)
from loop_pipeline.rollout.policy_text import promised
from loop_pipeline.rollout.release import introduce
from loop_pipeline.rollout.stored_policies import in_force, student_of, without_canary
from loop_pipeline.routing.evidence.calibration_rows import versions_of
from loop_pipeline.routing.off_policy_gate import OffPolicyReport
from loop_pipeline.routing.policy import BadBundle, PolicyBundle
from loop_pipeline.routing.policy_from_store import (
    NoPolicy,
    frontier_only_from_store,
    gold_promises,
    policy_from_store,
)
from loop_pipeline.routing.router import Router
from loop_pipeline.store.holds import held_groups
from loop_pipeline.store.policies import refused_student, why_refused
from loop_pipeline.store.traces import read_traces
from loop_pipeline.traces.shown_text import text_list, text_table


@dg.asset(
    deps=[vllm_deployment, task_groups],
    group_name="routing",
    kinds={"json"},
    code_version="1",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=pd.Timedelta(days=8)),
)
def routing_policy(loop: Loop) -> dg.MaterializeResult:
    """The policy in force: for each task group who answers, from which score on, and at what cost.

    A group goes to the student only if its promise is proven (certified); every other group goes to
    the frontier. A new student begins as a canary beside the policy in force, in shadow, unless
    LOOP_ROLLOUT is direct. If the first student was refused, every group goes to the frontier.

    **When to run it:** the job `retrain` does. By hand after new traffic was answered, after a
    price or a target was changed, or when the policy says that its certificates are void.

    **If it fails,** the policy in force stays, and the error says what is missing.

    **Read more** in `docs/concepts/certificates.md` and `docs/concepts/routing.md`.
    """
    engine, settings = loop.engine(), loop.settings()
    folder, judged = policy_folder(settings), None
    carry_holds(engine, active_groups(engine))
    holds = held_groups(engine)
    try:
        if student := refused_student(engine):
            why = f"the student was refused: {why_refused(student)}"
            fitted = frontier_only_from_store(engine, settings, why)
        else:
            now = in_force(engine)
            fitted, judged = policy_from_store(
                engine,
                settings,
                previous=without_canary(engine, now) if now else None,
                challenger=now.canary.policy if now and now.canary else None,
                holds=holds,
            )
    except NoPolicy as error:
        raise dg.Failure(f"the policy in force stays: {error}", allow_retries=False) from error
    staged = judged is not None and settings.rollout == "staged"
    try:
        secret = settings.secret()
        bundle = introduce(engine, folder, fitted, staged=staged, secret=secret)
    except BadBundle as error:
        raise dg.Failure(f"the policy in force stays: {error}", allow_retries=False) from error
    released = release_certified(engine, bundle, holds) if bundle.sha256 == fitted.sha256 else []
    shown = _figures(bundle, judged) | _details(bundle, judged)
    shown["bundle"] = dg.MetadataValue.path(str(folder / f"{bundle.sha256[:16]}.json"))
    shown["holds"] = dg.MetadataValue.md(
        text_list([*released, *lines_of_holds(engine)] or ["none"])
    )
    shown["mlflow"] = tell(engine, settings).strip() or "told"
    return dg.MaterializeResult(data_version=dg.DataVersion(bundle.sha256), metadata=shown)


def _figures(bundle: PolicyBundle, judged: OffPolicyReport | None) -> dict[str, int | float]:
    """Numbers for the plots; what is not known has no point."""
    students = [group for group in bundle.groups if group.arm == "student"]
    rows = sum(group.n for group in bundle.groups)
    figures: dict[str, int | float] = {
        "certified_coverage": sum(group.accepted for group in students) / rows if rows else 0.0,
        "groups": len(bundle.groups),
        "groups_with_student": len(students),
        "recalibration": bundle.recalibration,
    }
    proven = [g.agreement_lower for g in students if g.agreement_lower is not None]
    if proven:
        figures["lowest_proven_agreement"] = min(proven)
    estimates = {
        "logged_share_served": (judged.share_served, 1) if judged else (None, 1),
        "logged_agreement": (judged.agreement, 1) if judged else (None, 1),
        "logged_usd_per_1000_requests": (judged.usd, 1000) if judged else (None, 1),
    }
    figures |= {name: found.dr * by for name, (found, by) in estimates.items() if found}
    return {name: round(value, 4) for name, value in figures.items()}


def _details(bundle: PolicyBundle, judged: OffPolicyReport | None) -> dict[str, Any]:
    """The picture first, then what is to be read."""
    ceilings = [ceiling_words(group.ceiling) for group in bundle.groups]
    table = pd.DataFrame([group.model_dump() for group in bundle.groups]).assign(ceiling=ceilings)
    columns = ["name", "arm", "threshold", "n", "coverage", "agreement", "agreement_lower"]
    columns.append("ceiling")
    covered: dict[str, dict[str, float]] = {
        group.name: dict.fromkeys(("mean", "low", "high"), group.coverage)
        for group in bundle.groups
        if group.arm == "student"
    }
    picture = plot_png_markdown(shares_figure(covered, "share that the student may answer"))
    canary = bundle.canary
    about = {
        "coverage_by_group": dg.MetadataValue.md(picture),
        "groups_table": dg.MetadataValue.md(text_table(table[[*columns, "reason"]], index=False)),
        "canary": f"{canary.policy.student['adapter']}, stage {canary.stage}" if canary else "none",
        "promise": promised(bundle),
        "ceiling": ceiling_words(bundle.ceiling),
        "expires": bundle.expires or "never",
        "sha256": bundle.sha256,
    }
    if unpriced := [
        group.name for group in bundle.groups if group.frontier_usd_per_request is None
    ]:
        about["unpriced_groups"] = f"{len(unpriced)}; {WHAT_TO_DO}"
    if judged:
        about["judged_on_logs"] = dg.MetadataValue.md(text_list(judged.sentences))
    return about


@dg.asset_check(asset=routing_policy, blocking=True)
def policy_keeps_its_promise(loop: Loop) -> dg.AssetCheckResult:
    """On gold requests, which nothing was fitted on, no promise is provably broken.

    Each group is looked at, and all together: few gold rows of a group show little, many of all
    groups show more. Where even twice the errors would rather not be found, it says so.

    **If it fails,** the student disagrees with the frontier more often than was promised, and that
    cannot be chance. The policy is in force already.

    **What to do:** `loop rollback` returns to the policy before it. Then look at the group that is
    named: its traffic may have changed since the calibration rows were answered.

    **Read more** in `docs/concepts/certificates.md`.
    """
    bundle = in_force(loop.engine())
    if bundle is None:
        return dg.AssetCheckResult(passed=False, description="no policy is in force")
    if not student_of(bundle):
        nobody = "no student serves: nothing is promised"
        return dg.AssetCheckResult(passed=True, description=nobody)
    parts = {"champion": bundle} | ({"canary": bundle.canary.policy} if bundle.canary else {})
    gold = gold_promises(loop.engine(), loop.settings(), parts)
    broken = gold[gold["verdict"] == "broken"]
    whole = gold[(gold["group_id"] == "all") & (gold["who"] == "champion")].iloc[0]
    figures = {"gold_coverage": whole["coverage"], "gold_agreement": whole["agreement"]}
    return dg.AssetCheckResult(
        passed=broken.empty,
        description=_about_promises(gold),
        metadata={
            "broken_groups": len(broken),
            "ceiling": ceiling_words(bundle.ceiling),
            **{name: float(value) for name, value in figures.items() if pd.notna(value)},
            "gold": dg.MetadataValue.md(text_table(gold, index=False)),
        },
    )


def _about_promises(gold: pd.DataFrame) -> str | None:
    """What is broken, and of what gold rows tell nothing."""
    named = gold["name"].where(gold["group_id"] != "all", "all groups together")
    who = gold["who"] + " " + named
    said = []
    if len(broken := who[gold["verdict"] == "broken"]):
        said.append(f"broken for: {', '.join(broken)}")
    blind = gold[gold["verdict"] == "cannot tell"]
    if len(blind):
        rows = zip(who[blind.index], blind["served"], blind["found"], strict=True)
        shown = [f"{name} ({n} rows, {found:.0%})" for name, n, found in rows]
        said.append(
            "too few served gold rows to tell (and the chance to find twice the errors) for: "
            + ", ".join(shown)
        )
    return "; ".join(said) or None


@dg.asset_check(asset=routing_policy, blocking=True)
def router_loads_the_policy(loop: Loop) -> dg.AssetCheckResult:
    """A router reads the policy from its file and decides requests: digest, signature, embedder.

    **If it fails,** no application can use this policy: the file or its embedder is missing, was
    altered, or is not signed by this installation. Applications that have loaded an earlier policy
    go on with it.

    **What to do:** materialize `routing_policy` again. If the embedder is gone, run `regroup`
    first.

    **Read more** in `docs/reference/policy.md`.
    """
    bundle, settings = in_force(loop.engine()), loop.settings()
    if bundle is None:
        return dg.AssetCheckResult(passed=False, description="no policy is in force")
    running = versions_of(settings)
    try:
        router = Router.load(
            policy_folder(settings) / f"{bundle.sha256[:16]}.json",
            running=running,
            secret=settings.secret(),
            embedder_api_key=settings.embedder_api_key.get_secret_value(),
            embedder_url=settings.embedder,
        )
    except BadBundle as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    traces = read_traces(loop.engine(), split="gold", limit=200)
    arms = [
        router.decide(messages, prompt_id).arm
        for messages, prompt_id in zip(traces["messages"], traces["prompt_id"], strict=True)
    ]
    return dg.AssetCheckResult(
        passed=bool(arms),
        metadata={"decided": len(arms), "to_student": arms.count("student")}
        | ({"void": void} if (void := bundle.void_because(running)) else {}),
    )
