"""A captured line as the page needs it: who answered, in which group, for how much.

Not here: reading lines from the spool (``admin/spool_tail.py``) and rows from the store
(``day_totals.py``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from loop_pipeline.costs.unpriced import unpriced_as
from loop_pipeline.traces.messages import request_text

# Of a request that is listed, so many characters are shown.
SHOWN_CHARS = 140

Lane = Literal["student", "escalated", "frontier", "beside"]
"""Who answered: the student, the frontier after the student, the frontier at once; or an answer
that was asked for beside the one that went out."""


class Key(NamedTuple):
    """What requests are counted by."""

    day: str
    lane: Lane
    policy: str | None
    group_id: str | None
    canary: bool


@dataclass
class Sums:
    """What is summed up of requests; ``first`` is the moment of the earliest."""

    requests: int = 0
    usd: float = 0.0
    """Of those whose cost is known."""
    unpriced: dict[str, int] = field(default_factory=dict)
    """How many others, by model."""
    tokens_in: int = 0
    tokens_out: int = 0
    first: dt.datetime | None = None

    def add(self, other: Sums) -> None:
        """Add what another sum holds."""
        self.requests += other.requests
        self.usd += other.usd
        for model, count in other.unpriced.items():
            self.unpriced[model] = self.unpriced.get(model, 0) + count
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        firsts = [moment for moment in (self.first, other.first) if moment]
        self.first = min(firsts, default=None)


Totals = dict[Key, Sums]
Minutes = dict[tuple[str, Lane], int]


def add_totals(into: Totals, more: Mapping[Key, Sums]) -> None:
    """Add sums key by key."""
    for key, sums in more.items():
        into.setdefault(key, Sums()).add(sums)


def add_minutes(into: Minutes, more: Mapping[tuple[str, Lane], int]) -> None:
    """Add counts key by key."""
    for key, n in more.items():
        into[key] = into.get(key, 0) + n


def is_live(row: Mapping[str, Any]) -> bool:
    """Whether a trace came through the gateway, which says so in ``route``."""
    route = row.get("route")
    return isinstance(route, dict) and bool(route.get("arm") or route.get("shadow_of"))


def lane_of(row: Mapping[str, Any]) -> Lane:
    """Who answered a trace that came through the gateway."""
    route = row["route"]
    if route.get("shadow_of"):
        return "beside"
    if row.get("producer") == "student":
        return "student"
    return "escalated" if route.get("arm") == "student" else "frontier"


def moment_of(row: Mapping[str, Any]) -> dt.datetime:
    """When a request came, in UTC."""
    ts = row["ts"]
    moment = ts if isinstance(ts, dt.datetime) else dt.datetime.fromisoformat(str(ts))
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def cost_of(row: Mapping[str, Any]) -> float | None:
    """USD of a trace, as the gateway or an import wrote it; None: unpriced.

    In the spool a student's answer says no cost: it bills nothing by the token.
    """
    if row.get("cost_usd") is not None:
        return float(row["cost_usd"])
    return None if row.get("producer") == "frontier" else 0.0


def counted(row: Mapping[str, Any]) -> tuple[Key, Sums, str]:
    """A trace as a sum of one, and its minute."""
    moment, route = moment_of(row), row["route"]
    lane = lane_of(row)
    key = Key(
        moment.date().isoformat(),
        lane,
        route.get("policy"),
        route.get("group_id"),
        bool(route.get("canary")),
    )
    usd = cost_of(row)
    sums = Sums(
        1,
        usd or 0.0,
        _unpriced(row, usd),
        int(row.get("tokens_in") or 0),
        int(row.get("tokens_out") or 0),
        moment,
    )
    return key, sums, minute_of(moment)


def _unpriced(row: Mapping[str, Any], usd: float | None) -> dict[str, int]:
    counts = {name: int(row.get(name) or 0) for name in ("tokens_in", "tokens_out")}
    name = unpriced_as({**row, **counts, "cost_usd": usd})
    return {name: 1} if name else {}


def minute_of(moment: dt.datetime) -> str:
    """The minute of a moment, as minutes are named everywhere here."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M")


def listed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the page lists it."""
    route = row["route"]
    text = " ".join(request_text(row.get("messages") or []).split())
    return {
        "prompt_id": str(row["prompt_id"]),
        "ts": moment_of(row).isoformat(timespec="milliseconds"),
        "app": row.get("app"),
        "task": row.get("task"),
        "group_id": route.get("group_id"),
        "text": text[:SHOWN_CHARS] + ("…" if len(text) > SHOWN_CHARS else ""),
        "lane": lane_of(row),
        "model": row.get("model"),
        "adapter": route.get("adapter"),
        "reason": str(route.get("settled") or route.get("reason") or ""),
        "latency_ms": row.get("latency_ms"),
        "cost_usd": cost_of(row),
        "finish_reason": row.get("finish_reason"),
    }
