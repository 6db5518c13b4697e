"""Task groups in the store: written with what became of them, renamed, and looked up.

Not here: the rules of births and splits (``clustering/lifecycle.py``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import Engine, select

from loop_pipeline.store.database import insert_new, read, records, replace_all
from loop_pipeline.store.tables import GroupLineageRow, GroupMemberRow, TaskGroupRow


def write_groups(
    engine: Engine,
    groups: pd.DataFrame,
    members: pd.DataFrame,
    changes: Sequence[tuple[str, str | None, str | None, str]],
) -> None:
    """Put a fit in place of the one before, and note what changed; all of it or nothing.

    Args:
        engine: the store.
        groups: rows of ``task_groups``.
        members: rows of ``group_members``.
        changes: kind, from id, to id and reason of each.
    """
    now = dt.datetime.now(dt.UTC)
    rows = []
    for kind, source, target, reason in changes:
        named = hashlib.sha256(f"{now.isoformat()} {kind} {source} {target}".encode())
        rows.append(
            {"event_id": named.hexdigest()[:16], "at": now, "kind": kind, "reason": reason}
            | {"from_id": source, "to_id": target}
        )
    with engine.begin() as connection:
        replace_all(connection, TaskGroupRow, records(groups))
        replace_all(connection, GroupMemberRow, records(members))
        insert_new(connection, GroupLineageRow, rows)


def rename_group(engine: Engine, group_id: str, name: str) -> str:
    """Give a group a name that no refit changes.

    Args:
        engine: the store.
        group_id: its id, or as much of its beginning as is unique.
        name: the new one.

    Returns:
        The whole id.

    Raises:
        ValueError: no group or several begin like this, or the name is empty.
    """
    if not (name := " ".join(name.split())):
        raise ValueError("a group's name cannot be empty")
    table: Any = TaskGroupRow.__table__
    begins = table.c.group_id.startswith(group_id, autoescape=True)
    with engine.begin() as connection:
        found = list(connection.scalars(select(table.c.group_id).where(begins)))
        whole = [g for g in found if g == group_id] or found
        if len(whole) != 1:
            known = "no group begins" if not whole else f"{len(whole)} groups begin"
            raise ValueError(f"{known} with {group_id!r}; `loop groups list` shows the ids")
        changed = table.update().where(table.c.group_id == whole[0])
        connection.execute(changed.values(name=name, renamed=True))
    return whole[0]


def group_lines(engine: Engine, *, everything: bool = False) -> list[str]:
    """One line a group, its parts under it; with ``everything`` also those that ended or wait."""
    rows = read(engine, TaskGroupRow)
    shown = rows if everything else rows[rows["status"] == "active"]
    lines = []
    for parent in (
        shown[shown["parent_id"].isna()].sort_values("size", ascending=False).itertuples()
    ):
        lines.append(_line(parent))
        parts = shown[shown["parent_id"] == parent.group_id].sort_values("size", ascending=False)
        lines += [f"  {_line(part)}" for part in parts.itertuples()]
    return lines


def _line(row: Any) -> str:
    status = "" if row.status == "active" else f"  [{row.status}: {row.reason}]"
    return f"{row.group_id}  {row.size:>8,}  {row.name}{status}"


def lineage_lines(engine: Engine, group_id: str | None = None) -> list[str]:
    """What became of the groups, oldest first; of those whose id begins like this, or of all."""
    names = read(engine, TaskGroupRow, columns=["group_id", "name"]).set_index("group_id")["name"]
    lines = []
    for row in records(read(engine, GroupLineageRow).sort_values(["at", "event_id"])):
        ids = [i for i in (row["from_id"], row["to_id"]) if i]
        if group_id is None or any(i.startswith(group_id) for i in ids):
            told = " -> ".join(f"{i[:8]} {names.get(i, '')}".strip() for i in ids)
            lines.append(f"{row['at']:%Y-%m-%d %H:%M}  {row['kind']:7}  {told}: {row['reason']}")
    return lines
