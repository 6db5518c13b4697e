"""Trained adapters in the store: their status, their names, where they are loaded.

Not here: who decides on them (``evaluation``, ``rollout``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Engine, select

from loop_pipeline.store.database import first_row, insert_new, read, records, upsert
from loop_pipeline.store.tables import CheckpointRow, DeploymentRow, SpentGoldRow

# What the gate, the report and a reader of the store have to know of a training.
TRAVELS = ("stage", "parent_sha256", "ended_by", "training_cut_short", "config_sha256")


def adapter_name(adapter_sha256: str) -> str:
    """The name an adapter is served under: the same adapter has the same name everywhere."""
    return f"student-{adapter_sha256[:12]}"


def newest_checkpoint(engine: Engine, *statuses: str) -> dict[str, Any] | None:
    """The newest checkpoint, or the newest that has one of these statuses."""
    statement = select(CheckpointRow.__table__).order_by(CheckpointRow.created_at.desc())
    if statuses:
        statement = statement.where(CheckpointRow.status.in_(statuses))
    return first_row(engine, statement)


def set_checkpoint(engine: Engine, checkpoint_id: str, **values: Any) -> None:
    """Change columns of a checkpoint, all of them or none."""
    set_checkpoints(engine, {checkpoint_id: values})


def set_checkpoints(
    engine: Engine, values: Mapping[str, Mapping[str, Any]], *, spent: Iterable[str] = ()
) -> None:
    """Change columns of checkpoints, all of them or none.

    Args:
        engine: the store.
        values: new values by checkpoint id.
        spent: gold rows (prompt ids) that this decision rests on; they are recorded with it.
    """
    table: Any = CheckpointRow.__table__
    now = dt.datetime.now(dt.UTC)
    with engine.begin() as connection:
        insert_new(connection, SpentGoldRow, [{"prompt_id": row, "at": now} for row in spent])
        for checkpoint_id, columns in values.items():
            connection.execute(
                table.update().where(table.c.checkpoint_id == checkpoint_id).values(**columns)
            )


def spent_gold(engine: Engine) -> set[str]:
    """Gold rows (prompt ids) that some gate has decided on."""
    return set(read(engine, SpentGoldRow, columns=["prompt_id"])["prompt_id"])


def record_candidates(engine: Engine, dataset_id: str, metas: Sequence[Mapping[str, Any]]) -> None:
    """Write a row for each new adapter; what MLflow knows of the others is brought up to date.

    Args:
        engine: the store.
        dataset_id: what they learned from.
        metas: as their ``meta.json`` says; the supervised one first.
    """
    known = set(read(engine, CheckpointRow, columns=["checkpoint_id"])["checkpoint_id"])
    # The supervised adapter last: the newest candidate is the one that is released by default.
    for meta in reversed(metas):
        recorded = {name: meta[name] for name in ("mlflow_run_id", "model_version")}
        missing = meta["mlflow_missing"]
        reason = "not evaluated yet" + (f"; MLflow has no record of it: {missing}" * bool(missing))
        row = {
            "checkpoint_id": meta["adapter_sha256"],
            "created_at": dt.datetime.now(dt.UTC),
            "dataset_id": dataset_id,
            "base_dir": meta["base"],
            "adapter_dir": meta["adapter_dir"],
            "adapter_sha256": meta["adapter_sha256"],
            "metrics": {name: meta.get(name) for name in TRAVELS},
            "status": "candidate",
            "reason": reason,
            **recorded,
        }
        if row["checkpoint_id"] in known:
            set_checkpoint(engine, row["checkpoint_id"], **recorded)
            continue
        with engine.begin() as connection:
            upsert(connection, CheckpointRow, [row])


def checkpoint_rows(engine: Engine, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The checkpoints with these ids that are there."""
    found = read(engine, CheckpointRow, checkpoint_id=list(ids)).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


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
