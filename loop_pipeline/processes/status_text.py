"""A home's status for a terminal.

Not here: finding it out (``home_status.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from loop_pipeline.masking import masked
from loop_pipeline.processes.home_status import HomeStatus, Spool, Stored

MINUTE, HOUR, DAY = 60, 3600, 86_400


def status_text(status: HomeStatus, now: dt.datetime) -> str:
    """All of it, in at most 80 columns where the names allow it."""
    facts = [
        ("home", str(status.home)),
        ("runs", _runs(status.runs, now)),
        ("traces", _traces(status, now)),
        ("waiting", _waiting(status.spool, status.store, now)),
        ("policy", _policy(status.store, now)),
        ("alarms", _alarms(status.store)),
        ("schedules", _automation(status.automation)),
    ]
    lines = [f"{name:<11}{text}" for name, text in facts]
    services = status.runs["services"] if status.runs and not status.runs["killed"] else []
    return "\n".join([*lines, *(["", *_table(services, now)] if services else [])])


def _runs(runs: dict[str, Any] | None, now: dt.datetime) -> str:
    if runs is None:
        return "nothing; `loop up` starts the live loop"
    if runs["killed"]:
        return f"`{runs['command']}` was killed; what it left is being ended"
    since = _since(runs.get("started_at"), now)
    ending = ", which is ending" if runs.get("ending") else ""
    return f"`{runs['command']}` (pid {runs['pid']}{since}){ending}"


def _traces(status: HomeStatus, now: dt.datetime) -> str:
    store = status.store
    if store.away:
        return f"the store does not say: {store.away}"
    if store.newest is None:
        return "none yet"
    return f"{store.traces:,} in the store; the newest request is {age(store.newest, now)} old"


def _waiting(spool: Spool, store: Stored, now: dt.datetime) -> str:
    parts = [f"{spool.segments:,} spool segments ({_size(spool.bytes)})"]
    if spool.newest:
        parts[0] += f", written to {age(spool.newest, now)} ago"
    if not store.away:
        parts += [f"{store.quarantined:,} rows in quarantine", f"{store.reviews:,} reviews"]
    return "; ".join(parts)


def _policy(store: Stored, now: dt.datetime) -> str:
    if store.away:
        return "the store does not say; a running gateway keeps the one it has"
    if store.policy is None:
        return "none: everything goes to the frontier"
    student = store.policy["student"] or "nobody (everything goes to the frontier)"
    since = age(store.policy["since"], now)
    return f"{store.policy['sha256'][:12]}, for {since}; answers: {student}"


def _alarms(store: Stored) -> str:
    if store.away:
        return "the store does not say; a running gateway keeps the holds it has"
    parts = [f"{store.held} groups are held"] if store.held else []
    return "; ".join([*parts, *store.alerts]) or "none"


def _automation(states: dict[str, bool] | None) -> str:
    if states is None:
        return "Dagster does not say: while it does not run, none of them does"
    on = sorted(name for name, running in states.items() if running)
    off = sorted(name for name, running in states.items() if not running)
    parts = [f"on: {', '.join(on)}"] if on else []
    return "; ".join([*parts, *([f"off: {', '.join(off)}"] if off else [])])


def _table(services: list[dict[str, Any]], now: dt.datetime) -> list[str]:
    rows = [("process", "pid", "where", "health", "restarts", "for")]
    for one in services:
        since = age(dt.datetime.fromisoformat(one["since"]), now)
        where = masked(one["url"]) or "-"
        rows.append(
            (one["name"], str(one["pid"] or "-"), where, one["state"], str(one["restarts"]), since)
        )
    wide = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(row, wide, strict=True)) for row in rows]
    notes = [f"{one['name']}: {one['note']}" for one in services if one["note"]]
    return [line.rstrip() for line in lines] + notes


def age(moment: dt.datetime, now: dt.datetime) -> str:
    """How long ago, in the unit people would say; a clock that went back is none of ours."""
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def _since(started_at: str | None, now: dt.datetime) -> str:
    return f", for {age(dt.datetime.fromisoformat(started_at), now)}" if started_at else ""


def _size(count: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"
