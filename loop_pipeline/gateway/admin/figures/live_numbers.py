"""Puts the figures of the page together: what the store has, and what waits in the spool.

Not here: reading either (``day_totals.py``, ``admin/spool_tail.py``), and their fields
(``page_fields.py``).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_pipeline.costs.all_frontier import weights_of
from loop_pipeline.costs.prices import Prices
from loop_pipeline.gateway.admin.figures.day_totals import StoreView, last_minutes
from loop_pipeline.gateway.admin.figures.live_bill import Rent, bill
from loop_pipeline.gateway.admin.figures.live_promises import group_lines, promise
from loop_pipeline.gateway.admin.figures.live_row import Minutes, Totals, add_minutes, add_totals
from loop_pipeline.gateway.admin.figures.page_fields import (
    LANES,
    Hold,
    LiveNumbers,
    Minute,
    Period,
    Policy,
    SpoolNumbers,
)
from loop_pipeline.gateway.admin.figures.twice_answered import Both
from loop_pipeline.gateway.admin.spool_tail import Backlog
from loop_pipeline.routing.policy import PolicyBundle

NEWEST = 50
COUNTING = (
    "The store is being counted for the first time; until then the figures hold only what waits in"
    " the spool."
)


@dataclass(frozen=True)
class Known:
    """What the page has found out."""

    now: dt.datetime
    viewer: str
    bundle: PolicyBundle | None
    rent: Rent
    prices: Prices
    view: StoreView | None
    backlog: Backlog
    pending: tuple[Totals, Minutes, int] = field(default_factory=lambda: ({}, {}, 0))
    newest: Sequence[Mapping[str, Any]] = ()
    holds: Sequence[Mapping[str, Any]] = ()
    problems: Sequence[str] = ()


def live_numbers(known: Known) -> LiveNumbers:
    """Put the figures together: what the store has, and what waits in the spool."""
    totals: Totals = {}
    minutes: Minutes = {}
    if known.view:
        add_totals(totals, known.view.totals)
        add_minutes(minutes, known.view.minutes)
    add_totals(totals, known.pending[0])
    add_minutes(minutes, known.pending[1])
    both = known.view.both if known.view else []
    again = known.view.again if known.view else []
    today, month = known.now.date().isoformat(), known.now.date().isoformat()[:7]
    totals = {key: sums for key, sums in totals.items() if key.day.startswith(month)}
    bundle, names = known.bundle, _names(known.bundle)
    held = {str(h.get("group_id")): str(h.get("reason") or "held") for h in known.holds}
    return LiveNumbers(
        now=known.now.isoformat(timespec="seconds"),
        viewer=known.viewer,
        policy=_policy(bundle),
        minutes=[
            Minute(minute=m, **{lane: minutes.get((m, lane), 0) for lane in LANES})
            for m in last_minutes(known.now)
        ],
        today=_period(today, totals, both, known),
        month=_period(month, totals, both, known),
        promise=promise(bundle, totals, both, again) if bundle else None,
        groups=group_lines(bundle, totals, both, held, again) if bundle else [],
        holds=[_hold(row, names) for row in known.holds],
        spool=SpoolNumbers(
            segments=known.backlog.segments,
            bytes=known.backlog.bytes,
            traces=known.pending[2],
            oldest_s=known.backlog.oldest_s,
            unread_bytes=known.backlog.unread,
        ),
        newest=[dict(r) | {"group": names.get(str(r["group_id"]))} for r in _newest(known.newest)],
        counted_at=known.view.at.isoformat(timespec="seconds") if known.view else None,
        count_took_s=known.view.took_s if known.view else None,
        problems=list(known.problems) or ([] if known.view else [COUNTING]),
    )


def _newest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of rows from spool and store, each request once, the newest first."""
    once = {row["prompt_id"]: row for row in rows}
    return sorted(once.values(), key=lambda row: (row["ts"], row["prompt_id"]), reverse=True)[
        :NEWEST
    ]


def _names(bundle: PolicyBundle | None) -> dict[str, str]:
    return {g.group_id: g.name for g in bundle.groups} if bundle else {}


def _policy(bundle: PolicyBundle | None) -> Policy | None:
    if bundle is None:
        return None
    canary = bundle.canary
    return Policy(
        sha256=bundle.sha256,
        student=bundle.student.get("adapter", ""),
        frontier=bundle.frontier.get("model", ""),
        target=bundle.target_agreement,
        margin=bundle.margin,
        expires=bundle.expires,
        canary=f"{canary.policy.student.get('adapter')}, {canary.weight:.0%} of conversations"
        if canary
        else None,
    )


def _period(since: str, totals: Totals, both: Sequence[Both], known: Known) -> Period:
    """The window of the days that begin so: a day, or a month."""
    window = {key: sums for key, sums in totals.items() if key.day.startswith(since)}
    counts: Counter[str] = Counter()
    for key, sums in window.items():
        counts[key.lane] += sums.requests
    start = dt.datetime.fromisoformat(since if len(since) > 7 else f"{since}-01")
    firsts = [s.first for key, s in totals.items() if _asked_student(key.lane) and s.first]
    rented = max(min(firsts), start.replace(tzinfo=dt.UTC)) if firsts else None
    return Period(
        since=since,
        requests=sum(counts[lane] for lane in LANES),
        **{lane: counts[lane] for lane in LANES},
        bill=bill(
            window,
            [b for b in both if b.day.startswith(since)],
            both,
            weights=weights_of(
                known.bundle.frontier.get("model", "") if known.bundle else "",
                known.prices,
                known.now,
            ),
            rent=known.rent,
            rented_from=rented,
            now=known.now,
        ),
    )


def _asked_student(lane: str) -> bool:
    return lane in ("student", "escalated")


def _hold(row: Mapping[str, Any], names: Mapping[str, str]) -> Hold:
    group_id = str(row.get("group_id"))
    return Hold(
        group_id=group_id,
        name=names.get(group_id, group_id),
        since=str(row["at"]) if row.get("at") else None,
        reason=str(row.get("reason") or ""),
        actor=row.get("actor"),
    )
