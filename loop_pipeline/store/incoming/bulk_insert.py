"""Many new traces at once: by COPY on PostgreSQL, by one prepared statement on SQLite.

Not here: what a trace is (``traces``), and other tables, of which few rows come at a time
(``database.py``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
from sqlalchemy import JSON, Boolean, Connection
from sqlalchemy.exc import DBAPIError

from loop_pipeline.store.tables import TraceRow, UtcDateTime

COLUMNS = list(TraceRow.__table__.columns)
NAMES = ", ".join(column.name for column in COLUMNS)
# Rows lie here until those that are not there yet are taken over. It is the connection's own.
INCOMING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS incoming_traces (LIKE traces) ON COMMIT DELETE ROWS
"""
COPY = f"COPY incoming_traces ({NAMES}) FROM STDIN"
# In one order, or two imports of the same rows would wait for each other for ever.
TAKE_OVER = f"""
    INSERT INTO traces ({NAMES}) SELECT {NAMES} FROM incoming_traces ORDER BY prompt_id
    ON CONFLICT (prompt_id) DO NOTHING RETURNING prompt_id
"""  # noqa: S608  names of columns
INSERT = f"""
    INSERT INTO traces ({NAMES}) VALUES ({", ".join("?" * len(COLUMNS))})
    ON CONFLICT (prompt_id) DO NOTHING
"""  # noqa: S608
BUFFER = 1 << 20


def insert_traces(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Insert the traces whose prompt id is not there yet. Returns the ids that were new.

    Args:
        connection: of the transaction.
        rows: a row a prompt id.
    """
    if not rows:
        return []
    raw: Any = connection.connection.driver_connection
    driver: Any = connection.dialect.dbapi
    cursor = raw.cursor()
    try:
        if connection.dialect.name == "sqlite":
            return _one_by_one(cursor, rows)
        cursor.execute(INCOMING)
        cursor.copy_expert(COPY, io.BytesIO("".join(_copy_lines(rows)).encode()), BUFFER)
        cursor.execute(TAKE_OVER)
        return [prompt_id for (prompt_id,) in cursor.fetchall()]
    except driver.Error as error:
        # As if SQLAlchemy had run it: whoever handles errors of the store knows its kinds only.
        raise DBAPIError.instance("insert into traces", None, error, driver.Error) from error
    finally:
        cursor.close()


def _one_by_one(cursor: Any, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Insert rows into SQLite, whose driver says of many at once how many were new, not which."""
    execute = cursor.execute
    return [
        row["prompt_id"]
        for row, values in zip(rows, _tuples(rows), strict=True)
        if execute(INSERT, values).rowcount
    ]


def _tuples(rows: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """Values as the driver of SQLite takes them."""
    prepare = [(column.name, _sqlite_value(column.type)) for column in COLUMNS]
    for row in rows:
        yield [
            value if as_stored is None or value is None else as_stored(value)
            for value, as_stored in ((row[name], as_stored) for name, as_stored in prepare)
        ]


def _sqlite_value(kind: Any) -> Callable[[Any], Any] | None:
    if isinstance(kind, JSON):
        return _json_text
    if isinstance(kind, UtcDateTime):
        # As SQLAlchemy writes moments: without their zone, which is always UTC.
        return lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return int if isinstance(kind, Boolean) else None


def _copy_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Rows in the text format of COPY: tabs between values, backslashes before what means more."""
    prepare = [(column.name, isinstance(column.type, JSON)) for column in COLUMNS]
    for row in rows:
        yield "\t".join([_copied(row[name], as_json) for name, as_json in prepare]) + "\n"


def _copied(value: Any, as_json: bool) -> str:
    if value is None:
        return "\\N"
    if as_json:
        text = _json_text(value)
    elif isinstance(value, str):
        text = value
    else:
        return str(value)
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\r" in text or "\t" in text:
        text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text


def _json_text(value: Any) -> str:
    """A value as the JSON that is stored."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number of more than 64 bits
        return json.dumps(value)
