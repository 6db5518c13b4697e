"""Which trace is meant by a name, and whether a trace is the one that is stored.

Not here: how traces come in (``traces/ingest.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select, union

from loop_pipeline.store.database import CHUNK
from loop_pipeline.store.tables import QuarantineRow, TraceRow

# What the gateway puts before a prompt id where a client expects the vendor's id of a chat.
CHAT = "chatcmpl-"
# What makes a trace the one that it is. Figures (tokens, latency, cost) may be told anew.
IDENTITY = (
    *("ts", "messages", "tools", "output", "tool_calls", "model", "producer"),
    *("app", "conversation_id", "task", "context", "contract_id"),
)


class Named(NamedTuple):
    """The trace that a name means; ``prompt_id`` None: it means several."""

    prompt_id: str | None
    app: str


def differences(
    connection: Connection, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """What differs, by prompt id, between these rows and the stored ones that have their ids."""
    found: dict[str, list[str]] = {}
    columns = [getattr(TraceRow, name) for name in IDENTITY]
    for chunk in _chunks(rows):
        statement = select(TraceRow.prompt_id, *columns).where(TraceRow.prompt_id.in_(chunk))
        for stored in connection.execute(statement).mappings():
            if other := unlike(dict(stored), rows[stored["prompt_id"]]):
                found[stored["prompt_id"]] = other
    return found


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the fields in which two traces are not the same."""
    return [name for name in IDENTITY if one[name] != other[name]]


def stored_ids(connection: Connection, prompt_ids: Iterable[str]) -> set[str]:
    """Those that are there."""
    found: set[str] = set()
    for chunk in _chunks(prompt_ids):
        statement = select(TraceRow.prompt_id).where(TraceRow.prompt_id.in_(chunk))
        found.update(connection.scalars(statement))
    return found


def traces_named(connection: Connection, names: Iterable[str]) -> dict[str, Named]:
    """The traces that are meant: by prompt id, by the id of a chat, or by the vendor's id."""
    wanted = set(names)
    ids = wanted | {name.removeprefix(CHAT) for name in wanted}
    by_id: dict[str, Named] = {}
    by_response: dict[str, Named] = {}
    for chunk in _chunks(ids):
        statement = select(TraceRow.prompt_id, TraceRow.app).where(TraceRow.prompt_id.in_(chunk))
        by_id |= {
            row.prompt_id: Named(row.prompt_id, row.app) for row in connection.execute(statement)
        }
    for chunk in _chunks(wanted - by_id.keys()):
        columns = select(TraceRow.response_id, TraceRow.prompt_id, TraceRow.app)
        for row in connection.execute(columns.where(TraceRow.response_id.in_(chunk))):
            first = by_response.setdefault(row.response_id, Named(row.prompt_id, row.app))
            if first.prompt_id != row.prompt_id:
                by_response[row.response_id] = Named(None, row.app)
    found = {}
    for name in wanted:
        meant = by_id.get(name) or by_id.get(name.removeprefix(CHAT)) or by_response.get(name)
        if meant:
            found[name] = meant
    return found


def names_of(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Every name under which feedback may speak of these traces."""
    ids = {row["prompt_id"] for row in rows}
    responses = {row["response_id"] for row in rows if row["response_id"]}
    return ids | {CHAT + prompt_id for prompt_id in ids} | responses


def names_that_came(connection: Connection) -> set[str]:
    """Names in feedback that waits, whose traces are there."""
    waits = QuarantineRow.__table__.c.prompt_id
    chat = func.substr(waits, len(CHAT) + 1)
    statement = union(
        select(waits).join(TraceRow, TraceRow.prompt_id == waits),
        select(waits).join(TraceRow, TraceRow.prompt_id == chat).where(waits.startswith(CHAT)),
        select(waits).join(TraceRow, TraceRow.response_id == waits),
    )
    return set(connection.scalars(statement))


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    every = sorted(names)
    for start in range(0, len(every), CHUNK):
        yield every[start : start + CHUNK]
