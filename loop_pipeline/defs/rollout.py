"""Rollout: who watches a canary, and who notices that a server forgot its adapters."""

import dagster as dg

from loop_pipeline.defs.automation import UNFINISHED, deploy
from loop_pipeline.defs.resources import Loop
from loop_pipeline.rollout.canary_evidence import current_rollout
from loop_pipeline.rollout.commands import step_rollout
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.store.checkpoints import served_adapters


@dg.op
def next_step(context: dg.OpExecutionContext, loop: Loop) -> None:
    """Advance, promote or stop the rollout, as its evidence says."""
    context.log.info(step_rollout(loop.engine(), loop.settings(), actor="canary_watch"))


@dg.job
def move_rollout() -> None:
    """Do what the evidence on the canary says: the next stage, or its end."""
    next_step()


@dg.sensor(job_name="move_rollout", minimum_interval_seconds=60)
def canary_watch(context: dg.SensorEvaluationContext, loop: Loop) -> dg.RunRequest | dg.SkipReason:
    """Stop a canary that disagrees more often than the champion, advance one that does not."""
    unfinished = dg.RunsFilter(job_name=move_rollout.name, statuses=UNFINISHED)
    if runs := context.instance.get_runs(unfinished, limit=1):
        return dg.SkipReason(f"run {runs[0].run_id} is still moving it")
    rollout = current_rollout(loop.engine())
    if rollout is None:
        return dg.SkipReason("no rollout is in progress")
    verdict = rollout.verdict
    if verdict.action == "wait":
        return dg.SkipReason(verdict.reason)
    # More evidence is another key: a step that failed is tried again when more came in.
    step = f"{rollout.challenger.sha256[:12]}-{rollout.stage}-{verdict.action}-{verdict.rows}"
    return dg.RunRequest(run_key=step)


@dg.sensor(job=deploy, minimum_interval_seconds=60)
def forgotten_adapters(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.RunRequest | dg.SkipReason:
    """Deploy again when a replica came back, or came new, without the adapters it has to serve."""
    unfinished = dg.RunsFilter(job_name=deploy.name, statuses=UNFINISHED)
    if runs := context.instance.get_runs(unfinished, limit=1):
        return dg.SkipReason(f"run {runs[0].run_id} is still deploying")
    served = served_adapters(loop.engine())
    try:
        missing = open_fleet(loop.settings(), timeout=5).missing(served["adapter_name"].tolist())
    except ServerError as error:
        return dg.SkipReason(f"a replica does not answer: {error}")
    if not missing:
        return dg.SkipReason(f"every replica serves {len(served)} adapters")
    return dg.RunRequest(tags={"loop/missing": "; ".join(f"{u}: {n}" for u, n in missing.items())})
