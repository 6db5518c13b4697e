"""What people should know: one line for each cause, subject and day, and whether it is over.

Not here: what is worth an alert (``monitoring``), and how one reaches anybody.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import Engine, select

from loop_pipeline.hashing import digest
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import AlertRow


def raise_alert(
    engine: Engine, cause: str, subject: str, text: str, *, now: dt.datetime | None = None
) -> bool:
    """Say something once a day. False: it is said already and not over.

    Args:
        engine: the store.
        cause: what kind of thing it is, such as ``hold``.
        subject: what it is about, such as the id of a group.
        text: a sentence for people, which says what to do.
        now: if it is not now.
    """
    at = (now or dt.datetime.now(dt.UTC)).astimezone(dt.UTC)
    day = at.date().isoformat()
    row = {"alert_id": digest(cause, subject, day)[:16], "cause": cause, "subject": subject}
    own = select(AlertRow.resolved).where(AlertRow.alert_id == row["alert_id"])
    with engine.begin() as connection:
        said = connection.execute(own).first()
        if said is not None and said.resolved is None:
            return False
        more = {"at": at, "day": day, "text": text, "resolved": None}
        upsert(connection, AlertRow, [row | more])
    return True


def resolve_alerts(
    engine: Engine, cause: str, subject: str, *, now: dt.datetime | None = None
) -> int:
    """Say that it is over. Returns how many lines were still open."""
    table: Any = AlertRow.__table__
    own = (table.c.cause == cause) & (table.c.subject == subject) & table.c.resolved.is_(None)
    with engine.begin() as connection:
        over = table.update().where(own).values(resolved=now or dt.datetime.now(dt.UTC))
        return connection.execute(over).rowcount


def open_alerts(engine: Engine, cause: str | None = None) -> list[dict[str, Any]]:
    """What is not over, oldest first."""
    table: Any = AlertRow.__table__
    statement = select(table).where(table.c.resolved.is_(None))
    if cause is not None:
        statement = statement.where(table.c.cause == cause)
    with engine.connect() as connection:
        rows = connection.execute(statement.order_by(table.c.at, table.c.alert_id))
        return [dict(row) for row in rows.mappings()]
