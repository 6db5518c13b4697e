"""A small policy in force in a store, and answers that its student served, as the gateway keeps."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.hashing import digest
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.incoming.live_sums import count_live
from loop_pipeline.store.policies import activate_policy
from loop_pipeline_tests.gateway.small_policy import policy
from loop_pipeline_tests.serving.examples import OLD, add_traces, trace_row

# Later than all that happens while a test runs; older minutes of traffic are not kept.
NOW = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=2)
GROUP = "g-certified"
ADAPTER = policy().student["adapter"]


def in_force(engine: Engine, **changes: Any) -> PolicyBundle:
    """Put a policy into the store as the one in force."""
    bundle = policy(**changes)
    with engine.begin() as connection:
        activate_policy(
            connection, sha256=bundle.sha256, bundle=bundle.to_text(), checkpoint_id=OLD
        )
    return bundle


def served(
    number: int,
    *,
    agrees: bool = True,
    ts: dt.datetime = NOW,
    frontier: bool = True,
    shadow: bool = True,
    group: str = GROUP,
    adapter: str = ADAPTER,
    conversation: str | None = "",
) -> list[dict[str, Any]]:
    """A request that the student answered, and the frontier's answer beside it."""
    name = f"q{number:05d}"
    said = f"c{number}" if conversation == "" else conversation
    route = {"arm": "student", "adapter": adapter, "group_id": group, "shadow": shadow}

    def row(key: str, output: str, producer: str, **more: Any) -> dict[str, Any]:
        text = f"request {number}"
        fields = {"ts": ts, "text": text, "producer": producer, "route": route | more}
        fields |= {"conversation_id": said, "dedup_key": digest(text), "split": "train"}
        return trace_row(key, output, **fields)

    rows = [row(name, "refund", "student")]
    beside = {"shadow_of": name, "adapter": None}
    wanted = "refund" if agrees else "visa please, and soon"
    return rows + ([row(f"{name}~frontier", wanted, "frontier", **beside)] if frontier else [])


def serve(engine: Engine, good: int, bad: int = 0, *, start: int = 0, **fields: Any) -> None:
    """So many answers that agree with the frontier's, then so many that do not."""
    numbers = range(start, start + good + bad)
    found = [served(n, agrees=n < start + good, **fields) for n in numbers]
    add_traces(engine, *(row for rows in found for row in rows))


def traffic(engine: Engine, requests: int, ts: dt.datetime, start: int = 90_000) -> None:
    """Requests that the student served and nobody checked, as they are counted when they come."""
    rows = [served(start + n, ts=ts, shadow=False, frontier=False)[0] for n in range(requests)]
    add_traces(engine, *rows)
    with engine.begin() as connection:
        count_live(connection, rows)
