"""Copies what workers need from the store into files: policy in force, keys, holds, contracts.

Not here: reading them (``live_files.py``). A worker never waits for a database.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from loop_pipeline.gateway.access.live_files import CONTRACTS, HOLDS, KEYS, POLICY
from loop_pipeline.masking import mask_secrets
from loop_pipeline.store.tables import (
    CONTRACTED,
    AccessKeyRow,
    ContractRow,
    HoldRow,
    PolicyRow,
    ShadowRateRow,
    TraceRow,
)
from loop_pipeline.whole_file import write_whole

# Contracts are those of the newest traces; they change seldom, and looking them up takes a while.
NEWEST = 5_000
CONTRACTS_S = 60.0

_log = logging.getLogger(__name__)


class Copies:
    """The folder of the copies. What has not changed is not written again."""

    def __init__(self, folder: Path, open_engine: Callable[[], Engine]) -> None:
        """Make the folder, which only its owner may read.

        Args:
            folder: where the copies lie.
            open_engine: opens the store; called again until it succeeds.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._open, self._engine = folder, open_engine, None
        self._failing = False
        self._contracts_at = -CONTRACTS_S

    def refresh(self) -> bool:
        """Copy what has changed. If the store does not answer, the old copies stay.

        Returns:
            Whether the store answered.
        """
        try:
            if self._engine is None:
                self._engine = self._open()
            with self._engine.connect() as connection:
                texts = {
                    POLICY: _policy(connection),
                    KEYS: json.dumps(_keys(connection)),
                    HOLDS: json.dumps({"groups": _held(connection), "shadow": _shadow(connection)}),
                }
                if time.monotonic() - self._contracts_at >= CONTRACTS_S:
                    texts[CONTRACTS] = json.dumps({"apps": _contracts(connection)})
                    self._contracts_at = time.monotonic()
        except (SQLAlchemyError, OSError, RuntimeError, ValueError) as error:
            if not self._failing:
                said = mask_secrets(" ".join(f"{error}".split())[:300])
                _log.warning("the store does not answer, the last copies stay in force: %s", said)
            self._failing = True
            return False
        if self._failing:
            _log.info("the store answers again")
        self._failing = False
        for name, text in texts.items():
            path = self._folder / name
            if not path.exists() or path.read_text("utf-8") != text:
                write_whole(path, text)
                path.chmod(0o600)
        return True


def _policy(connection: Connection) -> str:
    """The document in force, empty if there is none."""
    return connection.scalar(select(PolicyRow.bundle).where(PolicyRow.active_to.is_(None))) or ""


def _keys(connection: Connection) -> dict[str, Any]:
    """The keys that are good now; expired ones stay, so that their holder is told so."""
    table: Any = AccessKeyRow.__table__
    rows = connection.execute(
        select(table).where(table.c.revoked_at.is_(None)).order_by(table.c.key_sha256)
    ).mappings()
    keys = [
        {
            "sha256": row["key_sha256"],
            "name": row["name"],
            "app": row["app"],
            "roles": row["roles"],
            "limits": row["limits"],
            "expires_at": _seconds(row["expires_at"]),
        }
        for row in rows
    ]
    ever = connection.scalar(select(func.count()).select_from(table)) or 0
    return {"required": ever > 0, "keys": keys}


def _held(connection: Connection) -> list[str]:
    held = select(HoldRow.group_id).where(HoldRow.released_at.is_(None)).distinct()
    return sorted(connection.scalars(held))


def _shadow(connection: Connection) -> dict[str, float]:
    """Share of a group's requests that everybody answers, where it is not the policy's."""
    statement = select(ShadowRateRow.group_id, ShadowRateRow.rate)
    rows = connection.execute(statement.order_by(ShadowRateRow.group_id))
    return {row.group_id: row.rate for row in rows}


def _contracts(connection: Connection) -> dict[str, dict[str, Any]]:
    """By app and task: the contract that most of the newest traces of it have."""
    newest = (
        select(TraceRow.app, TraceRow.task, TraceRow.contract_id)
        # Traces without one say nothing, however many of them are newer: an index leaves them out.
        .where(CONTRACTED)
        .order_by(TraceRow.day.desc())
        .limit(NEWEST)
        .subquery()
    )
    columns = (newest.c.app, newest.c.task, newest.c.contract_id)
    counted = select(*columns).group_by(*columns).order_by(func.count())
    rows = connection.execute(select(ContractRow.contract_id, ContractRow.body))
    bodies = {row.contract_id: row.body for row in rows}
    found: dict[str, dict[str, Any]] = {}
    for app, task, contract_id in connection.execute(counted):
        found.setdefault(app, {})[task] = bodies[contract_id]
    return found


def _seconds(moment: dt.datetime | None) -> float | None:
    if moment is None:
        return None
    # SQLite forgets the zone; what is stored is UTC.
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
