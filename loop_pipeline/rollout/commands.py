"""What people and the sensor do: adapters ready first, then the switch, then MLflow.

Not here: the switch itself (``release.py``).
"""

from __future__ import annotations

from sqlalchemy import Engine

from loop_pipeline.artifacts import policy_folder
from loop_pipeline.masking import masked
from loop_pipeline.rollout.canary_evidence import Rollout, current_rollout
from loop_pipeline.rollout.group_holds import events_of_holds
from loop_pipeline.rollout.release import advance, roll_back
from loop_pipeline.rollout.stored_policies import CannotRelease, in_force, parent_of, student_of
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.serving.fleet import open_fleet
from loop_pipeline.serving.probes import adapters_of
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import adapter_name, checkpoint_rows
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import policy_events
from loop_pipeline.store.tables import DeploymentRow
from loop_pipeline.store.tracking import point_alias

# A rollback must not wait for a server that hangs.
ANSWER_S = 4.0
WARM_UP_S = 60.0


def advance_rollout(engine: Engine, settings: LoopSettings, *, actor: str, reason: str) -> str:
    """Take the rollout one stage on, whatever is due, unless that is to stop it.

    Raises:
        CannotRelease: no rollout, no certificate, or the evidence speaks against the challenger.
        ServerError: a replica does not serve the challenger.
    """
    rollout = _rollout(engine)
    if rollout.due.action == "stop":
        raise CannotRelease(f"{rollout.due.reason}; `loop rollout stop` ends it")
    _ready(engine, settings, rollout.challenger, WARM_UP_S)
    bundle = advance(
        engine,
        policy_folder(settings),
        actor=actor,
        reason=reason,
        due=rollout.due,
        secret=settings.secret(),
    )
    if bundle.canary is not None:
        return f"the canary is in stage {bundle.canary.stage} (policy {bundle.sha256[:12]})"
    return f"the challenger is the champion (policy {bundle.sha256[:12]}){tell(engine, settings)}"


def stop_rollout(engine: Engine, settings: LoopSettings, *, actor: str, reason: str) -> str:
    """End the rollout: the champion's policy as it was before, and the challenger retired.

    Raises:
        CannotRelease: no rollout is in progress.
    """
    due = _rollout(engine).due
    bundle = roll_back(
        engine,
        policy_folder(settings),
        actor=actor,
        reason=reason,
        due=due,
        secret=settings.secret(),
    )
    return f"the champion serves alone (policy {bundle.sha256[:12]}){tell(engine, settings)}"


def step_rollout(engine: Engine, settings: LoopSettings, *, actor: str) -> str:
    """Take the step that is due, if one is."""
    rollout = current_rollout(engine)
    if rollout is None:
        return "no rollout is in progress"
    due = rollout.due
    if due.action == "wait":
        return due.reason
    act = stop_rollout if due.action == "stop" else advance_rollout
    return f"{act(engine, settings, actor=actor, reason=due.reason)}: {due.reason}"


def return_to_previous(
    engine: Engine, settings: LoopSettings, *, actor: str, reason: str, force: bool = False
) -> PolicyBundle:
    """Put the previous policy back in force: student, thresholds and prompts in one step.

    Args:
        engine: the store.
        settings: where the servers are.
        actor: who wants it.
        reason: why.
        force: also if a replica does not serve the earlier student; its requests go to the
            frontier until it does.

    Raises:
        CannotRelease: there is no earlier policy.
        ServerError: a replica does not serve the earlier student.
    """
    now = in_force(engine)
    if now is None:
        raise CannotRelease("no policy is in force")
    secret = settings.secret()
    if not force:
        _ready(engine, settings, parent_of(engine, now, secret), ANSWER_S)
    return roll_back(engine, policy_folder(settings), actor=actor, reason=reason, secret=secret)


def describe(engine: Engine) -> str:
    """The state of serving in a few lines: who answers, who is on trial, on what evidence."""
    now, rollout = in_force(engine), current_rollout(engine)
    if now is None:
        return "no policy is in force: everything goes to the frontier"
    if not student_of(now):
        return f"no student is approved: everything goes to the frontier (policy {now.sha256[:12]})"
    lines = [f"champion    {now.student['adapter']} (policy {now.sha256[:12]})"]
    if rollout is None:
        return "\n".join([*lines, "no rollout is in progress"])
    due, adapter = rollout.due, rollout.challenger.student["adapter"]
    lines.append(f"challenger  {adapter}, stage {rollout.stage}, weight {rollout.weight:.0%}")
    lines.append(f"next step   {due.action}: {due.reason}")
    if not rollout.challenger.certified:
        lines.append("            no group of the challenger is certified: it stays a shadow")
    return "\n".join(lines)


def history(engine: Engine) -> list[str]:
    """Who served what since when: policies, adapters and holds in one list, oldest first."""
    lines = events_of_holds(engine)
    for row in policy_events(engine).to_dict("records"):
        canary = f" + {adapter_name(row['canary_id'])} {row['stage']}" if row["canary_id"] else ""
        champion = adapter_name(row["champion_id"]) if row["champion_id"] else "the frontier"
        who = f"{champion}{canary}"
        what = f"{row['action']:<12} {who}, policy {row['policy_sha256'][:12]}"
        lines.append((row["at"], f"{what}, by {row['actor']}: {row['reason']}"))
    for row in read(engine, DeploymentRow).to_dict("records"):
        what = f"{row['status']:<12} {row['adapter_name']} at {masked(row['server_url'])}"
        lines.append((row["at"], what))
    return [f"{at:%Y-%m-%d %H:%M:%S} {text}" for at, text in sorted(lines)]


def tell(engine: Engine, settings: LoopSettings) -> str:
    """Let MLflow's alias ``champion`` follow the policy in force; says so if that failed."""
    now = in_force(engine)
    rows = checkpoint_rows(engine, [student_of(now)]) if now else []
    version = rows[0]["model_version"] if rows else None
    if not version:
        return ""
    model = settings.mlflow_target()["registered_model"]
    problem = point_alias(settings.tracking_uri, model, version)
    if problem is None:
        return ""
    return (
        f"\nMLflow was not told: {problem}. The switch stands; once MLflow is back, `loop rollout"
        f" sync` sets the alias champion of {model} to version {version}."
    )


def _rollout(engine: Engine) -> Rollout:
    rollout = current_rollout(engine)
    if rollout is None:
        raise CannotRelease("no rollout is in progress")
    return rollout


def _ready(engine: Engine, settings: LoopSettings, bundle: PolicyBundle, seconds: float) -> None:
    """Make sure that every replica serves a policy's student, if it has one."""
    if not student_of(bundle):
        return
    rows = checkpoint_rows(engine, [student_of(bundle)])
    if not rows:
        raise CannotRelease(f"checkpoint {student_of(bundle)[:12]} is not in the store any more")
    open_fleet(settings, timeout=seconds).ensure(adapters_of(engine, rows))
