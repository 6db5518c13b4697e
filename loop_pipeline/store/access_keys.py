"""Keys of the gateway: made, listed, revoked. The store knows their digests only.

Not here: who checks a key (``gateway``), and the commands (``cli``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select

from loop_pipeline.store.database import insert_rows
from loop_pipeline.store.tables import AccessKeyRow

PREFIX = "lk_"
ROLES = ("call", "feedback", "ingest", "admin")
LIMITS = ("parallel", "per_minute", "usd_per_day")


def add_key(
    engine: Engine,
    *,
    name: str,
    app: str,
    roles: Sequence[str],
    limits: Mapping[str, float],
    expires_at: dt.datetime | None = None,
) -> str:
    """Make a key. It is returned here and nowhere else again.

    Raises:
        ValueError: a role or a limit that there is not, or a name that a valid key has.
    """
    if not name or not app:
        raise ValueError("a key needs a name and an app")
    if not roles or (wrong := set(roles) - set(ROLES)):
        raise ValueError(f"roles of a key are some of {', '.join(ROLES)}, not {list(roles)}")
    if wrong := set(limits) - set(LIMITS):
        raise ValueError(f"limits of a key are {', '.join(LIMITS)}, not {', '.join(sorted(wrong))}")
    if wrong := [limit for limit, value in limits.items() if not value > 0]:
        raise ValueError(f"the limit {wrong[0]} of a key is above 0, or left out")
    key = PREFIX + secrets.token_urlsafe(32)
    row = {
        "key_sha256": key_sha256(key),
        "name": name,
        "app": app,
        "roles": sorted(set(roles)),
        "limits": dict(limits),
        "created_at": dt.datetime.now(dt.UTC),
        "expires_at": expires_at,
        "revoked_at": None,
    }
    with engine.begin() as connection:
        taken = select(AccessKeyRow.name).where(
            AccessKeyRow.name == name, AccessKeyRow.revoked_at.is_(None)
        )
        if connection.scalar(taken) is not None:
            raise ValueError(f"there is a key named {name!r}: revoke it, or take another name")
        insert_rows(connection, AccessKeyRow, [row])
    return key


def revoke_key(engine: Engine, name: str) -> None:
    """End the key of that name.

    Raises:
        ValueError: no valid key has this name.
    """
    table: Any = AccessKeyRow.__table__
    valid = (table.c.name == name) & table.c.revoked_at.is_(None)
    with engine.begin() as connection:
        done = connection.execute(
            table.update().where(valid).values(revoked_at=dt.datetime.now(dt.UTC))
        )
        if not done.rowcount:
            raise ValueError(f"no valid key is named {name!r}; loop keys list shows them")


def list_keys(engine: Engine) -> list[dict[str, Any]]:
    """All keys there ever were, oldest first, without what would let anybody in."""
    table = AccessKeyRow.__table__
    with engine.connect() as connection:
        rows = connection.execute(select(table).order_by(table.c.created_at, table.c.name))
        return [dict(row) for row in rows.mappings()]


def keys_in_force(engine: Engine, now: dt.datetime) -> list[dict[str, Any]]:
    """What a gateway needs of the valid keys, as plain values: expiry as ISO text or None."""
    return [
        {
            **{name: row[name] for name in ("key_sha256", "name", "app", "roles", "limits")},
            "expires_at": row["expires_at"] and row["expires_at"].isoformat(),
        }
        for row in list_keys(engine)
        if row["revoked_at"] is None and (row["expires_at"] is None or row["expires_at"] > now)
    ]


def key_sha256(key: str) -> str:
    """The name under which a key is stored: it is random, so that a plain digest does."""
    return hashlib.sha256(key.encode()).hexdigest()
