"""Holding task groups back: their requests go to the frontier until they are released.

Not here: the rows (``store/holds.py``), the alarm (``monitoring``), and who asks before a request
(``gateway``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.rollout.stored_policies import CannotRelease, in_force
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.database import read, records
from loop_pipeline.store.holds import all_holds, held_groups, hold_group, release_group
from loop_pipeline.store.tables import GroupLineageRow, TaskGroupRow
from loop_pipeline.store.watch.alerts import resolve_alerts

# Who holds a group when the alarm rings: such a hold ends with a newer certificate, too.
AUTOMATIC = "risk_watch"
# Cause of the alert that says so.
HOLD = "hold"


def hold(engine: Engine, name: str, *, actor: str, reason: str) -> str:
    """Hold a group of the policy in force, whatever it promises. Returns what was done, in words.

    Args:
        engine: the store.
        name: its name, its id or the beginning of that.
        actor: who wants it.
        reason: why.

    Raises:
        CannotRelease: no group, or several, are called so; no reason is given.
    """
    if not reason.strip():
        raise CannotRelease("a hold needs a reason: whoever may release it has to know it")
    group_id, title = _one(name, groups_of(engine))
    if hold_group(engine, group_id, reason=reason.strip(), actor=actor):
        return f"{title} is held: the frontier answers its requests until `loop policy release`"
    return f"{title} is held already; the reason of that stays"


def release(engine: Engine, name: str, *, actor: str, reason: str = "") -> str:
    """Release a group, also one that no policy knows any more. Returns what was done, in words.

    Its served answers are judged anew from then on.

    Raises:
        CannotRelease: no held group, or several, are called so.
    """
    known = groups_of(engine)
    held = {str(row["group_id"]) for row in held_groups(engine)}
    group_id, title = _one(name, {key: known.get(key, key[:8]) for key in held})
    _end(engine, group_id, actor=actor, reason=reason)
    return f"{title} is released: the policy in force decides again"


def release_certified(
    engine: Engine, bundle: PolicyBundle, holds: Sequence[dict[str, Any]]
) -> list[str]:
    """Release what the alarm held and a policy certifies by answers of after that.

    Args:
        engine: the store.
        bundle: the policy, in force now; for held groups it rests on rows of after their holds.
        holds: those that were in force when its rows were read.

    Returns:
        A sentence for each.
    """
    certified = {group.group_id: group for group in bundle.groups if group.arm == "student"}
    still = {row["hold_id"] for row in held_groups(engine)}
    said = []
    for row in holds:
        group = certified.get(row["group_id"])
        if group is None or row["hold_id"] not in still or row["actor"] != AUTOMATIC:
            continue
        why = f"certified again by {group.n} answers of after the hold"
        _end(engine, group.group_id, actor="loop", reason=why)
        said.append(f"{group.name} is released: {why}")
    return said


def carry_holds(engine: Engine, known: Mapping[str, str]) -> list[str]:
    """Hold what became of held groups: a split or a merge is no release.

    Args:
        engine: the store.
        known: names of the groups there are now, by id.

    Returns:
        A sentence for each group that is held now.
    """
    gone = [row for row in held_groups(engine) if row["group_id"] not in known]
    if not gone:
        return []
    steps: dict[str, set[str]] = {}
    for event in records(read(engine, GroupLineageRow)):
        if event["from_id"] and event["to_id"]:
            steps.setdefault(event["from_id"], set()).add(event["to_id"])
    said = []
    for row in gone:
        for group_id in sorted(_after(row["group_id"], steps) & set(known)):
            reason = f"came out of group {row['group_id'][:8]}, which is held: {row['reason']}"
            if hold_group(engine, group_id, reason=reason, actor=row["actor"]):
                said.append(f"{known[group_id]} [{group_id[:8]}] is held: it {reason}")
    return said


def active_groups(engine: Engine) -> dict[str, str]:
    """Names of the task groups of the last fit, by id: those that the next policy speaks of."""
    rows = records(read(engine, TaskGroupRow, status="active"))
    return {row["group_id"]: row["name"] for row in rows if row["parent_id"] is None}


def _after(group_id: str, steps: dict[str, set[str]]) -> set[str]:
    """All groups that came out of one, over any number of refits."""
    found: set[str] = set()
    waiting = [group_id]
    while waiting:
        new = steps.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _end(engine: Engine, group_id: str, *, actor: str, reason: str) -> None:
    release_group(engine, group_id, actor=actor, reason=reason)
    resolve_alerts(engine, HOLD, group_id)


def lines_of_holds(engine: Engine) -> list[str]:
    """The holds in force, a sentence each."""
    known = groups_of(engine)
    return [
        f"held: {known.get(row['group_id'], 'a group of no policy any more')}"
        f" [{row['group_id'][:8]}] since"
        f" {row['at']:%Y-%m-%d %H:%M} by {row['actor']}: {row['reason']}"
        for row in held_groups(engine)
    ]


def events_of_holds(engine: Engine) -> list[tuple[dt.datetime, str]]:
    """Every hold and release with its time, for the history."""
    events: list[tuple[dt.datetime, str]] = []
    for row in all_holds(engine):
        what = f"group {row['group_id'][:8]}"
        events.append((row["at"], f"{'held':<12} {what}, by {row['actor']}: {row['reason']}"))
        if row["released_at"] is not None:
            why = f": {row['released_reason']}" if row["released_reason"] else ""
            by = f"by {row['released_by']}{why}"
            events.append((row["released_at"], f"{'released':<12} {what}, {by}"))
    return events


def groups_of(engine: Engine) -> dict[str, str]:
    """Names of the groups of the policy in force, canary included, by id."""
    now = in_force(engine)
    policies = [now, *([now.canary.policy] if now.canary else [])] if now else []
    return {group.group_id: group.name for policy in policies for group in policy.groups}


def _one(name: str, groups: dict[str, str]) -> tuple[str, str]:
    """Id and name of the group that is meant."""
    found = [key for key, title in groups.items() if name in (key, title)]
    found = found or [key for key in groups if name and key.startswith(name)]
    if len(found) != 1:
        listed = (
            ", ".join(f"{title} [{key[:8]}]" for key, title in sorted(groups.items())) or "none"
        )
        raise CannotRelease(f"{len(found)} groups are called {name!r}; there are: {listed}")
    return found[0], groups[found[0]]
