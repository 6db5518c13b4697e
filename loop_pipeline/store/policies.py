"""Routing policies in the store: the one in force, and the history of changes.

Not here: what a policy says (``routing/policy.py``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Engine, func, select, update

from loop_pipeline.store.checkpoints import adapter_name, checkpoint_rows, newest_checkpoint
from loop_pipeline.store.database import first_row, insert_new, read, upsert
from loop_pipeline.store.tables import CheckpointRow, HoldRow, PolicyRow, RolloutRow


def active_policy(engine: Engine) -> dict[str, Any] | None:
    """The routing policy in force."""
    return first_row(engine, select(PolicyRow.__table__).where(PolicyRow.active_to.is_(None)))


def champion_of(engine: Engine) -> dict[str, Any] | None:
    """The checkpoint that answers now: the one the policy in force names, else the newest approved.

    It is the one that candidates have to match.
    """
    policy = active_policy(engine)
    if policy is None or policy["checkpoint_id"] is None:
        return newest_checkpoint(engine, "approved")
    return next(iter(checkpoint_rows(engine, [policy["checkpoint_id"]])), None)


def refused_student(engine: Engine) -> dict[str, Any] | None:
    """The newest checkpoint if the gate refused it and no other serves: the frontier keeps all."""
    newest = newest_checkpoint(engine)
    waits = newest is None or newest["status"] != "rejected"
    return None if waits or champion_of(engine) else newest


def why_refused(checkpoint: Mapping[str, Any]) -> str:
    """What the gate has against a checkpoint; of older verdicts everything it said."""
    gate = checkpoint["metrics"].get("gate", {})
    return " ".join(gate.get("against") or [checkpoint["reason"]])


def activate_policy(
    connection: Connection, *, sha256: str, bundle: str, checkpoint_id: str | None
) -> None:
    """Make this policy the one in force; a policy that is in force already stays as it is."""
    current = connection.scalar(select(PolicyRow.sha256).where(PolicyRow.active_to.is_(None)))
    if current == sha256:
        return
    now = dt.datetime.now(dt.UTC)
    table: Any = PolicyRow.__table__
    connection.execute(table.update().where(table.c.active_to.is_(None)).values(active_to=now))
    row = {
        "sha256": sha256,
        "bundle": bundle,
        "checkpoint_id": checkpoint_id,
        "active_from": now,
        "active_to": None,
    }
    upsert(connection, PolicyRow, [row])


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


def replace_text(engine: Engine, sha256: str, bundle: str) -> None:
    """Write the document of a policy anew: the same policy, with another signature."""
    own = PolicyRow.sha256 == sha256
    with engine.begin() as connection:
        connection.execute(update(PolicyRow).where(own).values(bundle=bundle))


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


def serves_since(engine: Engine, adapter: str) -> dt.datetime | None:
    """When a student became the one that serves, or a group was released to it last."""
    events = policy_events(engine)
    champions = [adapter_name(name) if name else "" for name in events["champion_id"]]
    began = None
    for moment, name, before in zip(events["at"], champions, ["", *champions], strict=False):
        if name == adapter and before != adapter:
            began = moment.to_pydatetime()
    policy = active_policy(engine)
    moments = [began or (policy["active_from"] if policy else None)]
    with engine.connect() as connection:
        moments.append(connection.scalar(select(func.max(HoldRow.released_at))))
    return max((moment for moment in moments if moment is not None), default=None)
