"""Who serves what: changes of the policy in force, loaded adapters, and paired answers."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.orm import aliased

from loop_pipeline.store.queries import (
    CHUNK,
    activate_policy,
    insert_new,
    query,
    read,
    records,
)
from loop_pipeline.store.tables import (
    CheckpointRow,
    ContractRow,
    DeploymentRow,
    PolicyRow,
    RolloutRow,
    StudentAnswerRow,
    TraceRow,
)

# Held-out answers that did not decide the gate: the gold split did, so it would flatter.
REPLAYED = ("validation", "calibration")

# Rows of ``traces`` belong to one request where ``route.shadow_of`` names it; ``route.adapter``
# says which cheaper model answered.
SHADOW_OF = TraceRow.route["shadow_of"].as_string()
REQUEST = func.coalesce(SHADOW_OF, TraceRow.prompt_id)
ADAPTER = TraceRow.route["adapter"].as_string()


class PolicyChanged(RuntimeError):
    """Another process put another policy in force meanwhile."""


def switch_policy(
    connection: Connection,
    *,
    expected: str | None,
    bundle: str,
    event: Mapping[str, Any],
    statuses: Mapping[str, str],
) -> None:
    """Put a policy in force, with its checkpoints' statuses and its line of history.

    Args:
        connection: in a transaction; all of it happens or nothing does.
        expected: sha256 of the policy that is in force now.
        bundle: the document.
        event: a row of ``rollouts`` without event_id and at.
        statuses: new status by checkpoint id.

    Raises:
        PolicyChanged: another policy is in force than the expected one.
    """
    now = dt.datetime.now(dt.UTC)
    current = (PolicyRow.active_to.is_(None)) & (PolicyRow.sha256 == expected)
    ended = connection.execute(update(PolicyRow).where(current).values(active_to=now)).rowcount
    if expected is not None and ended != 1:
        raise PolicyChanged(
            f"policy {expected[:12]} is not in force any more, nothing was changed;"
            " see `loop history` and try again"
        )
    sha256, champion = event["policy_sha256"], event["champion_id"]
    activate_policy(connection, sha256=sha256, bundle=bundle, checkpoint_id=champion or None)
    for checkpoint_id, status in statuses.items():
        own = CheckpointRow.checkpoint_id == checkpoint_id
        connection.execute(update(CheckpointRow).where(own).values(status=status))
    name = hashlib.sha256(f"{now.isoformat()} {sha256}".encode()).hexdigest()[:16]
    insert_new(connection, RolloutRow, [{**event, "event_id": name, "at": now}])


def checkpoint_rows(engine: Engine, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The checkpoints with these ids that are there."""
    found = read(engine, CheckpointRow, checkpoint_id=list(ids)).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def policy_text(engine: Engine, sha256: str) -> str | None:
    """A policy document as it was put in force."""
    with engine.connect() as connection:
        return connection.scalar(select(PolicyRow.bundle).where(PolicyRow.sha256 == sha256))


def policy_texts(engine: Engine, prefix: str) -> list[str]:
    """Every policy that was in force and whose sha256 begins so."""
    with engine.connect() as connection:
        own = PolicyRow.sha256.startswith(prefix, autoescape=True)
        return list(connection.scalars(select(PolicyRow.bundle).where(own)))


def policy_events(engine: Engine) -> pd.DataFrame:
    """Rows of ``rollouts``, oldest first."""
    return read(engine, RolloutRow).sort_values(["at", "event_id"], ignore_index=True)


def spent_recalibrations(engine: Engine) -> int:
    """The highest recalibration of any policy that was ever in force or on trial."""
    with engine.connect() as connection:
        return connection.scalar(select(func.max(RolloutRow.recalibration))) or 0


def previous_champion(engine: Engine, champion_id: str) -> str | None:
    """Checkpoint that served before this one and may serve again."""
    statement = (
        select(RolloutRow.champion_id)
        .join(CheckpointRow, CheckpointRow.checkpoint_id == RolloutRow.champion_id)
        .where(RolloutRow.champion_id != champion_id, CheckpointRow.status == "approved")
        .order_by(RolloutRow.at.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        return connection.scalar(statement)


def champions_so_far(engine: Engine) -> list[str]:
    """Every checkpoint that was champion at some time, the first one first."""
    statement = (
        select(RolloutRow.champion_id)
        .where(RolloutRow.champion_id != "")
        .group_by(RolloutRow.champion_id)
        .order_by(func.min(RolloutRow.at))
    )
    with engine.connect() as connection:
        return [str(name) for name in connection.scalars(statement)]


def record_deployment(
    engine: Engine, adapters: Mapping[str, str], urls: Sequence[str], detail: str
) -> None:
    """Note which adapters are served from now on; what did not change gets no row.

    Args:
        engine: the store.
        adapters: checkpoint id by adapter name.
        urls: of the replicas, each of which holds all of them.
        detail: what was done.
    """
    where, now = ",".join(urls), dt.datetime.now(dt.UTC)
    known = {row["adapter_name"]: row for row in records(served_adapters(engine))}
    rows: list[dict[str, Any]] = [
        {"adapter_name": name, "checkpoint_id": checkpoint, "server_url": where}
        | {"status": "serving", "detail": detail}
        for name, checkpoint in adapters.items()
        if name not in known or known[name]["server_url"] != where
    ]
    rows += [
        row | {"status": "unloaded", "detail": detail}
        for name, row in known.items()
        if name not in adapters
    ]
    for row in rows:
        named = f"{now.isoformat()} {row['adapter_name']}"
        row |= {"at": now, "deployment_id": hashlib.sha256(named.encode()).hexdigest()[:16]}
    with engine.begin() as connection:
        insert_new(connection, DeploymentRow, rows)


def served_adapters(engine: Engine) -> pd.DataFrame:
    """The last row of each adapter that is served."""
    rows = read(engine, DeploymentRow).sort_values("at")
    last = rows.drop_duplicates("adapter_name", keep="last")
    return last[last["status"] == "serving"]


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
    asked = select(REQUEST).where(challenger == ADAPTER, recent, TraceRow.ts >= since)
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
        .where(recent, REQUEST.in_(asked))
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
            if name == challenger:
                row |= {"challenger": output, "ts": ts}
            elif name == champion:
                row["champion"] = output
            elif producer == "frontier":
                row["frontier"] = output
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
        .where(TraceRow.route["shadow"].as_boolean())
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
        .where(TraceRow.producer == "frontier")
        .order_by(TraceRow.prompt_id)
    )
    requests = sorted(set(cheaper["request"]))
    parts = [query(engine, columns.where(SHADOW_OF.is_not(None)))]
    for at in range(0, len(requests), CHUNK):
        own = TraceRow.prompt_id.in_(requests[at : at + CHUNK])
        parts.append(query(engine, columns.where(own)))
    frontier = pd.concat(parts, ignore_index=True).drop_duplicates("prompt_id")
    return cheaper.merge(frontier, on="request").drop(columns="request")


def replayed_pairs(engine: Engine, champion_id: str, challenger_id: str) -> pd.DataFrame:
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
        .where(ours.split.in_(REPLAYED))
        .order_by(ours.prompt_id)
    )
    with engine.connect() as connection:
        rows = [
            (prompt_id, key, not old, not new)
            for prompt_id, key, old, new in connection.execute(statement)
        ]
    names = ["prompt_id", "dedup_key", "champion_disagrees", "challenger_disagrees"]
    return pd.DataFrame(rows, columns=pd.Index(names))
