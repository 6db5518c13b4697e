"""Puts policies in force and takes them back: one versioned bundle of student, thresholds, prompts.

A new student begins as a canary beside the champion's policy, which stays as it is. Each step is
one transaction: the pointer, the checkpoints' statuses and the line of history change together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.rollout.canary import STAGES, Step, next_stage
from loop_pipeline.rollout.stored_policies import (
    CannotRelease,
    in_force,
    obeyed,
    parent_of,
    student_of,
    without_canary,
)
from loop_pipeline.routing.policy import PolicyBundle, with_canary
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.store.checkpoints import checkpoint_rows, newest_checkpoint
from loop_pipeline.store.policies import (
    active_policy,
    previous_champion,
    replace_text,
    switch_policy,
)
from loop_pipeline.whole_file import write_whole


def roles(engine: Engine, secret: bytes | None = None) -> dict[str, dict[str, Any]]:
    """Checkpoints that have to be loaded, by role, each once.

    champion and canary answer now, the challenger is approved and will be the next canary, and the
    previous champion is kept for a rollback.

    Args:
        engine: the store.
        secret: of the installation: a policy that it has not signed names nobody.
    """
    now, newest = obeyed(engine, secret), newest_checkpoint(engine, "approved")
    approved = newest["checkpoint_id"] if newest else None
    champion = (student_of(now) if now else "") or approved
    if not champion:
        return {}
    wanted = {
        "champion": champion,
        "canary": student_of(now.canary.policy) if now and now.canary else None,
        "challenger": approved,
        "previous": previous_champion(engine, champion),
    }
    names = {name: role for role, name in reversed(wanted.items()) if name}
    found = {names[row["checkpoint_id"]]: row for row in checkpoint_rows(engine, list(names))}
    return {role: found[role] for role in wanted if role in found}


def introduce(
    engine: Engine,
    folder: Path,
    fitted: PolicyBundle,
    *,
    staged: bool,
    secret: bytes | None = None,
) -> PolicyBundle:
    """Let a fitted policy follow the one in force: at once, or as a canary if its student is new.

    Args:
        engine: the store.
        folder: of the policy documents.
        fitted: for the newest approved student; its parent is the champion's policy.
        staged: whether another student begins as a canary that answers nobody yet.
        secret: of the installation, which signs what comes into force; what it is built upon it
            has to have signed.

    Returns:
        The policy in force afterwards. A canary that serves already is left as it is.

    Raises:
        BadBundle: the champion's policy, beside which a canary would begin, is not signed.
    """
    now = in_force(engine)
    if now is None or not staged or student_of(now) in ("", student_of(fitted)):
        reason = "fitted on held-out answers" if staged else "fitted; not staged (LOOP_ROLLOUT)"
        return publish(
            engine, folder, fitted, action="fitted", actor="loop", reason=reason, secret=secret
        )
    now = in_force(engine, secret) or now
    champion = without_canary(engine, now, secret)
    same = now.canary is not None and student_of(now.canary.policy) == student_of(fitted)
    if same and now.canary is not None and now.canary.weight > 0:
        return now
    out = {} if same or now.canary is None else {student_of(now.canary.policy): "retired"}
    reason = "its policy was fitted again" if same else "approved by the gate"
    return publish(
        engine,
        folder,
        with_canary(champion, fitted, "shadow", STAGES["shadow"]),
        action="refitted" if same else "started",
        actor="loop",
        reason=reason,
        statuses=out,
        secret=secret,
    )


def publish(
    engine: Engine,
    folder: Path,
    bundle: PolicyBundle,
    *,
    action: str,
    actor: str,
    reason: str,
    statuses: Mapping[str, str] | None = None,
    due: Step | None = None,
    secret: bytes | None = None,
) -> PolicyBundle:
    """Put a policy in force: its file first, then everything in the store in one transaction.

    With a secret it is signed; one that is in force already without its signature gets it.

    Raises:
        PolicyChanged: another process was faster.
    """
    active = active_policy(engine)
    folder.mkdir(parents=True, exist_ok=True)
    document = bundle.to_text() if secret is None else signed(bundle, secret)
    write_whole(folder / f"{bundle.sha256[:16]}.json", document)
    if active and active["sha256"] == bundle.sha256:
        if active["bundle"] != document:
            replace_text(engine, bundle.sha256, document)
        return bundle
    canary = bundle.canary
    event = {
        "action": action,
        "stage": canary.stage if canary else "100%",
        "weight": canary.weight if canary else 0.0,
        "policy_sha256": bundle.sha256,
        "champion_id": student_of(bundle),
        "canary_id": student_of(canary.policy) if canary else None,
        "recalibration": max(bundle.recalibration, canary.policy.recalibration if canary else 0),
        "evidence": due.figures() if due else {},
        "actor": actor,
        "reason": reason,
    }
    with engine.begin() as connection:
        switch_policy(
            connection,
            expected=active["sha256"] if active else None,
            bundle=document,
            event=event,
            statuses=statuses or {},
        )
    return bundle


def advance(
    engine: Engine,
    folder: Path,
    *,
    actor: str,
    reason: str,
    due: Step | None = None,
    secret: bytes | None = None,
) -> PolicyBundle:
    """Take the rollout one stage on; after the last, the challenger's policy is in force.

    Its adapter has to be loaded everywhere already.

    Raises:
        CannotRelease: there is no rollout, or the challenger may not serve anything.
        BadBundle: the policy in force was altered, or is not signed.
    """
    now = in_force(engine, secret)
    if now is None or now.canary is None:
        raise CannotRelease("no rollout is in progress")
    challenger, stage = now.canary.policy, next_stage(now.canary.stage)
    if not challenger.certified:
        why = "; ".join(sorted({group.reason for group in challenger.groups})[:3])
        raise CannotRelease(f"no group of the challenger is certified, it stays a shadow: {why}")
    bundle = challenger
    if stage is not None:
        bundle = with_canary(parent_of(engine, now, secret), challenger, stage, STAGES[stage])
    return publish(
        engine,
        folder,
        bundle,
        action="advanced" if stage else "promoted",
        actor=actor,
        reason=reason,
        due=due,
        secret=secret,
    )


def roll_back(
    engine: Engine,
    folder: Path,
    *,
    actor: str,
    reason: str,
    due: Step | None = None,
    secret: bytes | None = None,
) -> PolicyBundle:
    """Return to the policy before the one in force, byte for byte; a canary is ended by it.

    Students that served under this policy and not under that one are retired. The earlier
    student's adapter has to be loaded everywhere already.

    Raises:
        CannotRelease: there is no earlier policy.
        BadBundle: the earlier one was altered, or is not signed.
    """
    now = in_force(engine)
    if now is None:
        raise CannotRelease("no policy is in force")
    target = parent_of(engine, now, secret)
    out = {student_of(now), *([student_of(now.canary.policy)] if now.canary else [])}
    statuses = dict.fromkeys(out - {student_of(target), ""}, "retired")
    if student_of(target):
        statuses[student_of(target)] = "approved"
    return publish(
        engine,
        folder,
        target,
        action="stopped" if now.canary else "rolled back",
        actor=actor,
        reason=reason,
        statuses=statuses,
        due=due,
        secret=secret,
    )
