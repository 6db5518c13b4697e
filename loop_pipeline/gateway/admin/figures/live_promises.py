"""Certified against achieved: what the promises of the policy in force have come to this month.

Not here: making promises (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from loop_pipeline.confidence.ceiling import Ceiling, ceiling_of, ceiling_words
from loop_pipeline.confidence.certificate import promise_state
from loop_pipeline.gateway.admin.figures.live_row import Totals
from loop_pipeline.gateway.admin.figures.page_fields import LANES, Achieved, GroupLine, State
from loop_pipeline.gateway.admin.figures.twice_answered import Again, Both
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle
from loop_pipeline.stats.binomial import clopper_pearson


def _achieved(
    totals: Totals,
    both: Sequence[Both],
    *,
    certified: float,
    target: float,
    state: State,
    ceiling: Ceiling | None,
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for key, sums in totals.items():
        counts[key.lane] += sums.requests
    requests = sum(counts[lane] for lane in LANES)
    agreed = sum(b.agrees for b in both)
    low, high = clopper_pearson(agreed, len(both)) if both else (None, None)
    return {
        "requests": requests,
        "student": counts["student"],
        "coverage": counts["student"] / requests if requests else None,
        "certified_coverage": certified,
        "target": target,
        "checked": len(both),
        "agreed": agreed,
        "agreement": agreed / len(both) if both else None,
        "low": low,
        "high": high,
        "state": state,
        "ceiling": ceiling.value if ceiling else None,
        "ceiling_words": ceiling_words(ceiling),
    }


def _ceiling(again: Sequence[Again], fitted: Ceiling | None) -> Ceiling | None:
    """Of this month; before any second answer has come, as the policy has it."""
    own = ceiling_of([a.agrees for a in again], [a.unit for a in again], drawn=True)
    return own or fitted


def _under(bundle: PolicyBundle, totals: Totals, both: Sequence[Both]) -> tuple[Totals, list[Both]]:
    """What the champion's certificates of this policy speak about."""
    own = {k: s for k, s in totals.items() if k.policy == bundle.sha256 and not k.canary}
    return own, [b for b in both if b.policy == bundle.sha256 and not b.canary]


def _state(both: Sequence[Both], bundle: PolicyBundle, groups: int, target: float) -> State:
    good = sum(b.agrees for b in both)
    return promise_state(good, len(both), target=target, delta=bundle.delta, groups=groups)


def promise(
    bundle: PolicyBundle, totals: Totals, both: Sequence[Both], again: Sequence[Again] = ()
) -> Achieved:
    """All groups together: each request is expected to be answered as its certificate says."""
    own, pairs = _under(bundle, totals, both)
    expected, requests = 0.0, 0
    for key, sums in own.items():
        if key.lane != "beside":
            group = bundle.group(key.group_id)
            requests += sums.requests
            expected += sums.requests * _covers(group)
    # Of promises relative to the ceiling the lowest: what is above it says nothing of one group.
    target = min((bundle.least(g.group_id) for g in bundle.groups if g.arm == "student"), default=0)
    target = target or bundle.target_agreement
    return Achieved(
        **_achieved(
            own,
            pairs,
            certified=expected / requests if requests else 0.0,
            target=target,
            state=_state(pairs, bundle, 1, target),
            ceiling=_ceiling(again, bundle.ceiling),
        )
    )


def _covers(group: GroupPolicy | None) -> float:
    return group.coverage if group and group.arm == "student" else 0.0


def group_lines(
    bundle: PolicyBundle,
    totals: Totals,
    both: Sequence[Both],
    held: Mapping[str, str],
    again: Sequence[Again] = (),
) -> list[GroupLine]:
    """Each group of the policy, the one with the most requests first."""
    own, pairs = _under(bundle, totals, both)
    tested = len({b.group_id for b in pairs})
    lines = []
    for group in bundle.groups:
        mine = [b for b in pairs if b.group_id == group.group_id]
        twice = [a for a in again if a.group_id == group.group_id]
        target = bundle.least(group.group_id)
        figures = _achieved(
            {k: s for k, s in own.items() if k.group_id == group.group_id},
            mine,
            certified=_covers(group),
            target=target,
            state=_state(mine, bundle, tested, target),
            ceiling=_ceiling(twice, group.ceiling),
        )
        lines.append(
            GroupLine(
                **figures,
                group_id=group.group_id,
                name=group.name,
                arm=group.arm,
                reason=group.reason,
                held=held.get(group.group_id),
            )
        )
    return sorted(lines, key=lambda line: (-line.requests, line.name))
