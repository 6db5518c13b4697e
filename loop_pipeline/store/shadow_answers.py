"""Requests that several models answered, as the store has them.

Not here: what they prove (``calibration_rows.py``, ``canary_evidence.py``).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
from sqlalchemy import Engine, func, select

from loop_pipeline.store.database import CHUNK, of_app, query
from loop_pipeline.store.tables import ContractRow, TraceRow
from loop_pipeline.store.traces import BROKEN

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
        prompt_id, dedup_key, conversation_id, user_hash, ts (of the challenger's answer), contract
        (dict or None), and the answers: frontier, champion, challenger.
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
            TraceRow.conversation_id,
            TraceRow.user_hash,
            TraceRow.producer,
            TraceRow.ts,
            TraceRow.output,
            ContractRow.body,
        )
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(recent, REQUEST.in_(asked), WHOLE, FIRST_ANSWER, of_app(engine))
        .order_by(TraceRow.prompt_id)
    )
    shared = ["prompt_id", "dedup_key", "conversation_id", "user_hash", "contract"]
    names = [*shared, "ts", "frontier", "champion", "challenger"]
    found: dict[str, dict[str, Any]] = {}
    with engine.connect() as connection:
        for one in connection.execute(statement):
            request, name, key, conversation, user, producer, ts, output, contract = one
            known = (request, key, conversation, user, contract)
            row = found.setdefault(request, dict(zip(shared, known, strict=True)))
            if producer == "frontier":
                row["frontier"] = output
            elif name == challenger:
                row |= {"challenger": output, "ts": ts}
            elif name == champion:
                row["champion"] = output
    complete = [row for row in found.values() if len(row) == len(names)]
    return pd.DataFrame(complete, columns=pd.Index(names), dtype=object)


def conversation_unit(
    conversation_id: str | None, user_hash: str | None, ts: dt.datetime, prompt_id: str
) -> str:
    """What a request belongs to, of which only the first row is evidence of its own.

    Its conversation; without one, all that a user asked within an hour; without a user, itself.
    """
    if conversation_id:
        return f"conversation {conversation_id}"
    if user_hash:
        return f"user {user_hash} {ts.astimezone(dt.UTC):%Y-%m-%dT%H}"
    return f"request {prompt_id}"


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
