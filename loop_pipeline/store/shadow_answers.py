"""Requests that several models answered, as the store has them.

Not here: what they prove (``routing/calibration_rows.py``, ``rollout/canary_evidence.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import aliased

from loop_pipeline.store.database import CHUNK, of_app, query
from loop_pipeline.store.tables import (
    ContractRow,
    StudentAnswerRow,
    TraceRow,
)
from loop_pipeline.store.traces import BROKEN

# Held-out answers that did not decide the gate: the gold split did, so it would flatter.
REPLAYED = ("validation", "calibration")

# Rows of ``traces`` belong to one request where ``route.shadow_of`` names it; ``route.adapter``
# says which cheaper model answered.
SHADOW_OF = TraceRow.route["shadow_of"].as_string()
REQUEST = func.coalesce(SHADOW_OF, TraceRow.prompt_id)
ADAPTER = TraceRow.route["adapter"].as_string()
# The frontier's second answer to a request, asked for to see how often it agrees with itself. It is
# nobody's standard: whatever compares models with the frontier reads the first.
FIRST_ANSWER = TraceRow.route["again"].as_boolean().is_not(True)
WHOLE = func.coalesce(TraceRow.finish_reason, "").not_in(BROKEN)


def paired_answers(
    engine: Engine, champion: str, challenger: str, since: dt.datetime
) -> pd.DataFrame:
    """Live requests that the frontier, the champion and the challenger all answered.

    Args:
        engine: the store.
        champion: adapter name.
        challenger: adapter name.
        since: only requests that the challenger answered from then on.

    Returns:
        prompt_id, dedup_key, ts (of the challenger's answer), contract (dict or None), and the
        answers: frontier, champion, challenger.
    """
    recent = TraceRow.day >= since.astimezone(dt.UTC).date().isoformat()
    # The frontier's row of an escalated request names the student that was asked before it.
    asked = select(REQUEST).where(
        challenger == ADAPTER, TraceRow.producer == "student", recent, TraceRow.ts >= since
    )
    statement = (
        select(
            REQUEST,
            ADAPTER,
            TraceRow.dedup_key,
            TraceRow.producer,
            TraceRow.ts,
            TraceRow.output,
            ContractRow.body,
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(recent, REQUEST.in_(asked), WHOLE, FIRST_ANSWER, of_app(engine))
        .order_by(TraceRow.prompt_id)
    )
    names = ["prompt_id", "dedup_key", "contract", "ts", "frontier", "champion", "challenger"]
    found: dict[str, dict[str, Any]] = {}
    with engine.connect() as connection:
        for prompt_id, name, dedup_key, producer, ts, output, contract in connection.execute(
            statement
        ):
            known = {"prompt_id": prompt_id, "dedup_key": dedup_key, "contract": contract}
            row = found.setdefault(prompt_id, known)
            if producer == "frontier":
                row["frontier"] = output
            elif name == challenger:
                row |= {"challenger": output, "ts": ts}
            elif name == champion:
                row["champion"] = output
    complete = [row for row in found.values() if len(row) == len(names)]
    return pd.DataFrame(complete, columns=pd.Index(names), dtype=object)


def shadowed_answers(engine: Engine) -> pd.DataFrame:
    """Answers of cheaper models to requests that the shadow coin drew, beside the frontier's.

    Only requests whose ``route.shadow`` is true: escalated ones, which have both answers anyway,
    are thinned by the same coin, so that these are a uniform sample of traffic.

    Returns:
        A row per request and cheaper model (``adapter``): prompt_id (of the frontier's row),
        dedup_key, ts, split, task, messages, contract (dict or None), frontier_output,
        frontier_usd, adapter, output, logprobs, tokens_in, tokens_out, finish_reason, latency_ms,
        cost_usd.
    """
    said = ("ts", "output", "logprobs", "tokens_in", "tokens_out", "finish_reason", "latency_ms")
    cheaper = query(
        engine,
        select(
            REQUEST.label("request"),
            ADAPTER.label("adapter"),
            *(getattr(TraceRow, name) for name in (*said, "cost_usd")),
        )
        .where(TraceRow.producer == "student", ADAPTER.is_not(None))
        .where(TraceRow.route["shadow"].as_boolean(), of_app(engine))
        .order_by(TraceRow.prompt_id),
    )
    # Two plain reads instead of a join on what stands in JSON: no index knows that.
    columns = (
        select(
            REQUEST.label("request"),
            TraceRow.prompt_id,
            TraceRow.dedup_key,
            TraceRow.split,
            TraceRow.task,
            TraceRow.messages,
            ContractRow.body.label("contract"),
            TraceRow.output.label("frontier_output"),
            TraceRow.cost_usd.label("frontier_usd"),
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(TraceRow.producer == "frontier", WHOLE, FIRST_ANSWER)
        .order_by(TraceRow.prompt_id)
    )
    requests = sorted(set(cheaper["request"]))
    parts = [query(engine, columns.where(SHADOW_OF.is_not(None)))]
    for at in range(0, len(requests), CHUNK):
        own = TraceRow.prompt_id.in_(requests[at : at + CHUNK])
        parts.append(query(engine, columns.where(own)))
    frontier = pd.concat(parts, ignore_index=True).drop_duplicates("prompt_id")
    return cheaper.merge(frontier, on="request").drop(columns="request")


def held_out_pairs(engine: Engine, champion_id: str, challenger_id: str) -> pd.DataFrame:
    """Held-out requests that both answered offline: whether each disagreed with the frontier.

    Returns:
        prompt_id, dedup_key, champion_disagrees, challenger_disagrees, by prompt id.
    """
    ours, theirs = aliased(StudentAnswerRow), aliased(StudentAnswerRow)
    statement = (
        select(ours.prompt_id, TraceRow.dedup_key, theirs.agrees, ours.agrees)
        .join(theirs, theirs.prompt_id == ours.prompt_id)
        .join(TraceRow, TraceRow.prompt_id == ours.prompt_id)
        .where(ours.checkpoint_id == challenger_id, theirs.checkpoint_id == champion_id)
        .where(ours.split.in_(REPLAYED), of_app(engine))
        .order_by(ours.prompt_id)
    )
    with engine.connect() as connection:
        rows = [
            (prompt_id, key, not old, not new)
            for prompt_id, key, old, new in connection.execute(statement)
        ]
    names = ["prompt_id", "dedup_key", "champion_disagrees", "challenger_disagrees"]
    return pd.DataFrame(rows, columns=pd.Index(names))
