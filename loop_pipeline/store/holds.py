"""Groups that the frontier answers for now, whatever the policy says.

Not here: who holds a group and why (``rollout``), and what the router makes of it.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

from sqlalchemy import Engine, select

from loop_pipeline.store.database import insert_rows
from loop_pipeline.store.tables import HoldRow


def hold_group(engine: Engine, group_id: str, *, reason: str, actor: str) -> bool:
    """Hold a group. False: somebody holds it already, and their reason stays."""
    table: Any = HoldRow.__table__
    with engine.begin() as connection:
        held = select(table.c.hold_id).where(
            table.c.group_id == group_id, table.c.released_at.is_(None)
        )
        if connection.scalar(held) is not None:
            return False
        row = {
            "hold_id": secrets.token_hex(8),
            "group_id": group_id,
            "at": dt.datetime.now(dt.UTC),
            "reason": reason,
            "actor": actor,
            "released_at": None,
            "released_by": None,
            "released_reason": None,
        }
        insert_rows(connection, HoldRow, [row])
    return True


def release_group(engine: Engine, group_id: str, *, actor: str, reason: str = "") -> bool:
    """Release a group. False: nobody holds it."""
    table: Any = HoldRow.__table__
    held = (table.c.group_id == group_id) & table.c.released_at.is_(None)
    with engine.begin() as connection:
        done = connection.execute(
            table.update()
            .where(held)
            .values(
                released_at=dt.datetime.now(dt.UTC),
                released_by=actor,
                released_reason=reason or None,
            )
        )
    return bool(done.rowcount)


def held_groups(engine: Engine) -> list[dict[str, Any]]:
    """The holds in force, oldest first."""
    table = HoldRow.__table__
    statement = select(table).where(table.c.released_at.is_(None))
    with engine.connect() as connection:
        rows = connection.execute(statement.order_by(table.c.at, table.c.hold_id))
        return [dict(row) for row in rows.mappings()]


def all_holds(engine: Engine) -> list[dict[str, Any]]:
    """Every hold there ever was, oldest first."""
    table = HoldRow.__table__
    with engine.connect() as connection:
        rows = connection.execute(select(table).order_by(table.c.at, table.c.hold_id))
        return [dict(row) for row in rows.mappings()]
