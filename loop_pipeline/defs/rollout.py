"""Rollout: who watches a canary, and who notices that a server forgot its adapters."""

import dagster as dg

from loop_pipeline.defs.automation import SENSOR, in_flight
from loop_pipeline.defs.jobs import deploy
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
    """Take the new student one step on, or end its trial, as the evidence says.

    **When to run it:** the sensor `canary_watch` does. By hand it does no harm: without enough
    evidence it changes nothing. `loop rollout status` says where the trial stands.

    **Read more** in `docs/concepts/rollout.md`.
    """
    next_step()


@dg.sensor(
    job_name="move_rollout",
    minimum_interval_seconds=60,
    default_status=SENSOR,
    description="""Watches the new student on trial (canary): ends the trial if it disagrees with
the frontier more often than the champion, and gives it more traffic if it does not.

When to turn it on: if LOOP_ROLLOUT is staged and requests are routed by this policy. It looks
once a minute and starts the job move_rollout only when the evidence is enough.

Read more in docs/concepts/rollout.md.""",
)
def canary_watch(context: dg.SensorEvaluationContext, loop: Loop) -> dg.RunRequest | dg.SkipReason:
    """Ask for a step of the rollout once its evidence is enough."""
    if skip := in_flight(context.instance, move_rollout.name):
        return skip
    rollout = current_rollout(loop.engine())
    if rollout is None:
        return dg.SkipReason("no rollout is in progress")
    due = rollout.due
    if due.action == "wait":
        return dg.SkipReason(due.reason)
    # More evidence is another key: a step that failed is tried again when more came in.
    step = f"{rollout.challenger.sha256[:12]}-{rollout.stage}-{due.action}-{due.rows}"
    return dg.RunRequest(run_key=step)


@dg.sensor(
    job=deploy,
    minimum_interval_seconds=60,
    default_status=SENSOR,
    description="""Loads the students again when a vLLM server came back, or came new, without them.

When to turn it on: as soon as a student serves. Until a server has its students, their requests
go to the frontier. It asks every server once a minute and starts the job deploy if one lacks a
student; a server that does not answer is named in the tick.

Read more in docs/concepts/rollout.md.""",
)
def forgotten_adapters(
    context: dg.SensorEvaluationContext, loop: Loop
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a deployment when a replica lacks an adapter that it has to serve."""
    if skip := in_flight(context.instance, deploy.name):
        return skip
    served = served_adapters(loop.engine())
    try:
        missing = open_fleet(loop.settings(), timeout=5).missing(served["adapter_name"].tolist())
    except ServerError as error:
        return dg.SkipReason(f"a replica does not answer: {error}")
    if not missing:
        return dg.SkipReason(f"every replica serves {len(served)} adapters")
    return dg.RunRequest(tags={"loop/missing": "; ".join(f"{u}: {n}" for u, n in missing.items())})
