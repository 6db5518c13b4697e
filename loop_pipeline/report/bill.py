"""What the logged requests cost at the frontier, and what they would cost as they are routed now.

The arithmetic is in `costs.attribution`; here it gets its figures from the store.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd
from sqlalchemy import Engine, func, select

from loop_pipeline.costs.attribution import LOADED_FACTOR, CostNumbers, attribute
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.database import of_app, query, read
from loop_pipeline.store.shadow_answers import FIRST_ANSWER, REQUEST, SHADOW_OF
from loop_pipeline.store.tables import GroupMemberRow, TraceRow
from loop_pipeline.store.unpriced_traces import UNPRICED_AS

HOUR = 3600.0


@dataclass(frozen=True)
class LoggedTraffic:
    """The requests of the log, each counted once, however many models have answered it.

    Attributes:
        requests: how many.
        hours: from the first to the last, at least one.
        frontier_usd: what the frontier billed for each request that it answered, by prompt id;
            those that are unpriced are not in it.
        unpriced: how many these are, by model.
    """

    requests: int
    hours: float
    frontier_usd: pd.Series
    unpriced: dict[str, int]


def logged_traffic(engine: Engine) -> LoggedTraffic:
    """Read the requests and the frontier's bill; students' and shadow answers are no requests."""
    counted = select(
        func.count(func.distinct(REQUEST)), func.min(TraceRow.ts), func.max(TraceRow.ts)
    ).where(of_app(engine))
    with engine.connect() as connection:
        requests, first, last = connection.execute(counted).one()
    rows = query(
        engine,
        select(
            TraceRow.prompt_id,
            REQUEST.label("request"),
            TraceRow.cost_usd,
            UNPRICED_AS.label("unpriced"),
        )
        .where(TraceRow.producer == "frontier", FIRST_ANSWER, of_app(engine))
        # A request's own row comes before another answer that was asked for beside it.
        .order_by(SHADOW_OF.is_not(None), TraceRow.prompt_id),
    ).drop_duplicates("request")
    seconds = (last - first).total_seconds() if requests else 0.0
    bill = pd.Series(rows["cost_usd"].astype(float).to_numpy(), index=rows["prompt_id"])
    unpriced = Counter(str(model) for model in rows["unpriced"].dropna())
    return LoggedTraffic(requests, max(seconds / HOUR, 1.0), bill.dropna(), dict(unpriced))


def routed_costs(
    engine: Engine,
    settings: LoopSettings,
    bundle: PolicyBundle,
    *,
    training_seconds: float = 0.0,
) -> CostNumbers | None:
    """What the requests that the frontier was asked would cost under a policy: the priced ones.

    The load on the student's server is LOOP_REQUESTS_PER_HOUR; where the logged load is below the
    break-even, it is the logged one: no saving is claimed that the log does not bear out.

    Args:
        engine: the store.
        settings: rent of the server and the assumed load.
        bundle: the policy.
        training_seconds: of the student, charged at the server's rent.

    Returns:
        None if no request has a known cost.
    """
    logged = logged_traffic(engine)
    billed = float(logged.frontier_usd.sum())
    if billed == 0:
        return None
    members = read(engine, GroupMemberRow, columns=["prompt_id", "group_id"])
    members = members[members["prompt_id"].isin(logged.frontier_usd.index)]
    coverage = {g.group_id: g.coverage for g in bundle.groups if g.arm == "student"}
    covered = members["group_id"].map(coverage).fillna(0).astype(float)
    calls, n = int(members["group_id"].isin(list(coverage)).sum()), len(logged.frontier_usd)
    found = attribute(
        requests=n,
        coverage=float(covered.sum() / n),
        requests_per_hour=settings.requests_per_hour,
        server_hourly_usd=settings.server_hourly_usd,
        frontier_usd=billed,
        covered_frontier_usd=float((covered * members["prompt_id"].map(logged.frontier_usd)).sum()),
        student_calls=calls,
        shadow_rate=bundle.exploration_rate,
        again_rate=settings.frontier_again_rate,
        training_usd=training_seconds / HOUR * settings.server_hourly_usd * LOADED_FACTOR,
        logged_requests_per_hour=calls / n * logged.requests / logged.hours,
    )
    return found.at_logged_load() if found.pays is False else found
