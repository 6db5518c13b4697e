"""Opening the store, and reading and writing rows of any table.

Not here: questions about one subject, which have files of their own beside this one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Select,
    create_engine,
    delete,
    event,
    func,
    inspect,
    make_url,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from loop_pipeline.masking import masked
from loop_pipeline.store.tables import Base, TraceRow
from loop_pipeline.store.upgrade import StoreError, bring_up_to_date, sqlite_pragmas

# SQLite takes at most 32,766 variables in one statement.
CHUNK = 10_000
# Option of an engine that is about one app's traces.
APP = "loop_app"


def open_store(url: str, app: str = "") -> Engine:
    """Connect to the store and bring its schema up to date.

    Args:
        url: of the database.
        app: questions about traces (``of_app``) are about those of this app; empty: of all.

    Raises:
        StoreError: the URL is none, or the store cannot be used as it is; says what to do.
        sqlalchemy.exc.OperationalError: the database cannot be reached.
    """
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(_checked(url), pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", sqlite_pragmas)
    bring_up_to_date(engine)
    return engine.execution_options(**{APP: app}) if app else engine


def of_app(engine: Engine) -> ColumnElement[bool]:
    """The traces that this engine is about: one app's, or all of them (``LOOP_APP``)."""
    app = engine.get_execution_options().get(APP)
    return TraceRow.app == app if app else true()


def _checked(url: str) -> URL:
    # What the library says of a URL that it cannot read repeats parts of the password.
    shown = f"LOOP_DATABASE_URL {masked(url)}"
    if not url.startswith("sqlite:") and url.partition("?")[0].count("@") > 1:
        raise StoreError(f"{shown}: write an @ in a name or a password as %40")
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            f"{shown} is no database URL; write postgresql+psycopg2://user:password@host:5432/name,"
            " special characters of the password percent-encoded"
        ) from None


def insert_new(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> int:
    """Insert the rows whose key (one column) is not there yet. Returns how many were new."""
    key = inspect(table).primary_key[0]
    unique = {row[key.name]: row for row in rows}
    there = 0
    names = list(unique)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        there += connection.scalar(select(func.count()).where(key.in_(chunk))) or 0
    if unique:
        statement = _insert_into(connection, table).on_conflict_do_nothing(index_elements=[key])
        connection.execute(statement, list(unique.values()))
    return len(unique) - there


def upsert(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; where the key is there, the new row wins."""
    if not rows:
        return
    keys = [column.name for column in inspect(table).primary_key]
    statement = _insert_into(connection, table)
    changed = {c.name: c for c in statement.excluded if c.name not in keys}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=changed), list(rows)
    )


def _insert_into(connection: Connection, table: type[Base]) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def replace_days(
    connection: Connection, table: type[Base], days: Sequence[str], rows: Sequence[dict[str, Any]]
) -> None:
    """Make these rows the only ones of their days."""
    connection.execute(delete(table).where(table.__table__.c.day.in_(days)))
    insert_rows(connection, table, rows)


def replace_all(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Make these rows the only ones of their table."""
    connection.execute(delete(table))
    insert_rows(connection, table, rows)


def insert_rows(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; none is no statement."""
    if rows:
        connection.execute(table.__table__.insert(), list(rows))  # pyright: ignore[reportAttributeAccessIssue]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dictionaries in which missing values are None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # pyright: ignore[reportReturnType]


def read(
    engine: Engine,
    table: type[Base],
    *,
    days: Iterable[str] | None = None,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    **equal: Any,
) -> pd.DataFrame:
    """Read rows of a table as a frame, ordered by its key.

    Args:
        engine: the store.
        table: one of ``store.tables``.
        days: only these days.
        columns: only these columns.
        limit: at most so many rows.
        equal: column=value or column=[values].
    """
    mapped = table.__table__
    statement = select(*(mapped.c[name] for name in columns)) if columns else select(mapped)
    if table is TraceRow:
        statement = statement.where(of_app(engine))
    if days is not None:
        statement = statement.where(mapped.c.day.in_(list(days)))
    for name, value in equal.items():
        column = mapped.c[name]
        many = isinstance(value, list | tuple | set)
        statement = statement.where(column.in_(list(value)) if many else column == value)
    return query(engine, statement.order_by(*inspect(table).primary_key).limit(limit))


def query(engine: Engine, statement: Select[Any]) -> pd.DataFrame:
    """The rows of a statement as a frame.

    Text stays of type object: pandas' own string type would turn None into NaN.
    """
    with engine.connect() as connection:
        result = connection.execute(statement)
        names = list(result.keys())
        rows = [tuple(row) for row in result]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    return pd.DataFrame(
        {name: _column(columns.get(name, ())) for name in names}, columns=pd.Index(names)
    )


def _column(values: tuple[Any, ...]) -> pd.Series:
    plain = all(isinstance(v, bool | int | float | dt.datetime) for v in values)
    return pd.Series(list(values), dtype=None if plain and values else object)


def count(engine: Engine, table: type[Base], **equal: Any) -> int:
    """Number of rows of a table."""
    statement = select(func.count()).select_from(table)
    for name, value in equal.items():
        statement = statement.where(table.__table__.c[name] == value)
    with engine.connect() as connection:
        return connection.scalar(statement) or 0


def follow(engine: Engine, prompt_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that is about a prompt id, by table, in the order of the loop."""
    found = {}
    for table in Base.metadata.tables.values():
        if "prompt_id" in table.c:
            statement = select(table).where(table.c.prompt_id == prompt_id)
            with engine.connect() as connection:
                if rows := [dict(row) for row in connection.execute(statement).mappings()]:
                    found[table.name] = rows
    return found


def first_row(engine: Engine, statement: Select[Any]) -> dict[str, Any] | None:
    """The first row of a query, None if there is none."""
    with engine.connect() as connection:
        row = connection.execute(statement.limit(1)).mappings().first()
    return dict(row) if row else None
