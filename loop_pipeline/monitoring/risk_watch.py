"""One look at all promises: evidence taken in, alarms acted on, groups held, people told.

Not here: when it is looked (``defs/monitoring.py``), and the arithmetic (``risk.py``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from sqlalchemy import Engine

from loop_pipeline.monitoring.blindness import BLIND_MINUTES, silence
from loop_pipeline.monitoring.risk import Risk, risk_of
from loop_pipeline.monitoring.shadow_share import close_look
from loop_pipeline.monitoring.watched_rows import AnotherLook, Stream, take_rows
from loop_pipeline.rollout.group_holds import AUTOMATIC, HOLD, carry_holds, groups_of
from loop_pipeline.rollout.stored_policies import in_force, student_of
from loop_pipeline.routing.policy import BadBundle, PolicyBundle
from loop_pipeline.stats.e_process import LIFE, RESTART
from loop_pipeline.store.holds import held_groups, hold_group
from loop_pipeline.store.watch.alerts import open_alerts, raise_alert, resolve_alerts
from loop_pipeline.store.watch.served_pairs import outcomes_from, streams
from loop_pipeline.store.watch.shadow_rates import write_shadow_rates

# Causes of alerts, beside that of a hold.
BLIND, NOVELTY = "blind", "novelty"


@dataclass
class WatchedGroup:
    """A group that a model may serve: what was promised, and where it stands."""

    group_id: str
    name: str
    adapter: str
    bound: float
    risk: Risk = field(default_factory=lambda: risk_of(0, [], 0.05))
    times: list[dt.datetime] = field(default_factory=list)


@dataclass
class Look:
    """What a look found: the groups, and sentences on what was done and what is wrong."""

    groups: list[WatchedGroup]
    said: list[str]


def look(engine: Engine, *, blind_hours: float, now: dt.datetime | None = None) -> Look:
    """Look at everything once, and act. Whoever looks, and however often, comes to the same.

    Args:
        engine: the store.
        blind_hours: after so long without evidence no student serves any more.
        now: if it is not now.
    """
    now = (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
    try:
        bundle = in_force(engine)
    except BadBundle as error:
        return Look([], [f"nothing is watched: {error}"])
    if bundle is None:
        return Look([], ["nothing is watched: no policy is in force"])
    said = carry_holds(engine, {group.group_id: group.name for group in bundle.groups})
    try:
        new = take_rows(engine, now)
    except AnotherLook as error:
        return Look([], [str(error)])
    groups = _watched(engine, bundle, new)
    said += [line for group in groups if (line := _act(engine, group, now))]
    said += _blind(engine, bundle, blind_hours, now)
    _shadow_more(engine, groups)
    known = groups_of(engine)
    said += [
        f"group {row['group_id'][:8]} is held and in no policy any more: its hold does nothing;"
        f" `loop policy release {row['group_id'][:8]} --reason ...` clears it"
        for row in held_groups(engine)
        if row["group_id"] not in known
    ]
    return Look(groups, said)


def _watched(engine: Engine, bundle: PolicyBundle, new: dict[Stream, int]) -> list[WatchedGroup]:
    """Every group and model that may serve it, by the policy and by the one on trial."""
    found: dict[tuple[str, str], WatchedGroup] = {}
    for policy in (bundle, *([bundle.canary.policy] if bundle.canary else [])):
        for group in policy.groups:
            # Of a promise relative to the ceiling: what it is surely broken above.
            bound = round(1 - policy.least(group.group_id), 12)
            adapter = group.model or policy.student.get("adapter", "")
            if group.arm == "student" and adapter:
                watched = WatchedGroup(group.group_id, group.name, adapter, bound)
                found.setdefault((group.group_id, adapter), watched)
    for stream in streams(engine):
        watched = found.get(stream[:2])
        if watched is not None:
            rows = LIFE + new.get(stream, 0)
            total, outcomes = outcomes_from(engine, stream, rows, RESTART)
            watched.risk = risk_of(total, [bad for bad, _ in outcomes], watched.bound)
            watched.times = [at for _, at in outcomes]
    return list(found.values())


def _act(engine: Engine, group: WatchedGroup, now: dt.datetime) -> str | None:
    if not group.risk.alarm:
        return None
    reason = f"{group.adapter}: {group.risk.sentence(group.bound)}"
    if not hold_group(engine, group.group_id, reason=reason, actor=AUTOMATIC):
        return None
    text = (
        f"{group.name} [{group.group_id[:8]}] is held, the frontier answers its requests. {reason}."
        " A certificate made from answers of later than this ends it, or `loop policy release"
        f" {group.group_id[:8]} --reason ...`"
    )
    raise_alert(engine, HOLD, group.group_id, text, now=now)
    return text


def _blind(engine: Engine, bundle: PolicyBundle, blind_hours: float, now: dt.datetime) -> list[str]:
    """Say that nobody is looking; after hours of it, let no student serve."""
    adapter = bundle.student.get("adapter", "")
    if not student_of(bundle):
        return []
    quiet = silence(engine, adapter, bundle.exploration_rate, now)
    said_at = [a["at"] for a in open_alerts(engine, BLIND) if a["subject"] == adapter]
    since = min(said_at, default=now)
    if not quiet.blind:
        # It is over with the first check, and not when nobody asks the student for a while.
        if said_at and quiet.since is not None and quiet.since >= since:
            resolve_alerts(engine, BLIND, adapter, now=now)
        return []
    hours = (now - since).total_seconds() / 3600 + BLIND_MINUTES / 60
    text = (
        f"{quiet.sentence}. Are `loop ship` and the frontier's shadow calls all right? Without any"
        f" for {blind_hours:g} hours the student is switched off"
    )
    said = [text] if raise_alert(engine, BLIND, adapter, text, now=now) else []
    if hours >= blind_hours:
        why = f"{adapter} serves unchecked for {hours:.0f} hours: nobody knows if the promise holds"
        for group in bundle.groups:
            if group.arm == "student" and hold_group(
                engine, group.group_id, reason=why, actor=AUTOMATIC
            ):
                told = f"{group.name} [{group.group_id[:8]}] is held: {why}"
                raise_alert(engine, HOLD, group.group_id, told, now=now)
                said.append(told)
    return said


def _shadow_more(engine: Engine, groups: list[WatchedGroup]) -> None:
    """Write down which groups are looked at more closely."""
    warned = max((alert["at"] for alert in open_alerts(engine, NOVELTY)), default=None)
    risks: dict[str, list[tuple[Risk, list[dt.datetime]]]] = {}
    for group in groups:
        risks.setdefault(group.group_id, []).append((group.risk, group.times))
    held = [row["group_id"] for row in held_groups(engine)]
    write_shadow_rates(engine, close_look(risks, held, warned))
