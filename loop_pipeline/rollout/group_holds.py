"""Holding task groups back: their requests go to the frontier until somebody releases them.

Not here: the rows (``store/holds.py``), and who asks before a request (``gateway``).
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine

from loop_pipeline.rollout.stored_policies import CannotRelease, in_force
from loop_pipeline.store.holds import all_holds, held_groups, hold_group, release_group


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
    group_id, title = _one(name, _known(engine))
    if hold_group(engine, group_id, reason=reason.strip(), actor=actor):
        return f"{title} is held: the frontier answers its requests until `loop policy release`"
    return f"{title} is held already; the reason of that stays"


def release(engine: Engine, name: str, *, actor: str) -> str:
    """Release a group, also one that no policy knows any more. Returns what was done, in words.

    Raises:
        CannotRelease: no held group, or several, are called so.
    """
    known = _known(engine)
    held = {str(row["group_id"]) for row in held_groups(engine)}
    group_id, title = _one(name, {key: known.get(key, key[:8]) for key in held})
    release_group(engine, group_id, actor=actor)
    return f"{title} is released: the policy in force decides again"


def lines_of_holds(engine: Engine) -> list[str]:
    """The holds in force, a sentence each."""
    known = _known(engine)
    return [
        f"held: {known.get(row['group_id'], 'a group of no policy')} [{row['group_id'][:8]}] since"
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
            events.append((row["released_at"], f"{'released':<12} {what}, by {row['released_by']}"))
    return events


def _known(engine: Engine) -> dict[str, str]:
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
