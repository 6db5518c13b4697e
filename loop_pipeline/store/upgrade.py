"""Brings a store to the schema of this version, whole or not at all.

What the tables hold is in `tables`; the steps from one version to the next are in `migrations`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from loop_pipeline.store.tables import Base

MIGRATIONS = Path(__file__).parent / "migrations"
# A writer waits so long for another one: the gateway and a run may write at once.
LOCK_WAIT_MS = 30_000
# Of PostgreSQL's advisory lock; any number that no other program uses.
LOCK = 7316
# What alembic calls a table that it is copying.
COPY = "_alembic_tmp_"
# Migrations drop and make these anew: a step of the loop writes their rows again.
DERIVED = ("group_model_stats",)

_log = logging.getLogger(__name__)


class StoreError(RuntimeError):
    """The store cannot be used as it is. The text says why and what to do."""


def bring_up_to_date(engine: Engine) -> None:
    """Make or upgrade the tables in one transaction; do nothing where they are current.

    A process that is killed leaves the store as it was; of two that start at once, one waits. An
    SQLite file is copied beside itself before it is changed.

    Raises:
        StoreError: the store is newer, damaged, another program's, or half made and not empty.
    """
    head = newest_version()
    try:
        with engine.connect() as connection:
            if _version(connection) == head:
                return
        if engine.dialect.name == "sqlite":
            _upgrade_sqlite(engine, head)
        else:
            _upgrade_postgresql(engine, head)
    except DatabaseError as error:
        # SQLAlchemy wraps what says that a file is no database or has broken pages.
        if type(error) is DatabaseError and isinstance(error.orig, sqlite3.DatabaseError):
            raise StoreError(_damaged(engine, error.orig)) from None
        raise


def newest_version() -> str:
    """The schema version that this code works with."""
    return max(p.name.split("_")[0] for p in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def sqlite_pragmas(connection: sqlite3.Connection, _record: Any = None) -> None:
    """Set up a new connection to SQLite. With WAL, readers do not block the writer."""
    connection.execute(f"PRAGMA busy_timeout={LOCK_WAIT_MS}")
    end = time.monotonic() + LOCK_WAIT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # This one does not wait by itself while another process makes the same change.
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=NORMAL")


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(text("select version_num from alembic_version"))


def _upgrade_postgresql(engine: Engine, head: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"select pg_advisory_xact_lock({LOCK})"))
        version = _version(connection)
        _refuse_strangers(version, head)
        if version is None and (found := _own_tables(connection)):
            raise StoreError(_half_made(found, "LOOP_DATABASE_URL"))
        _migrate(connection, "head")


def _upgrade_sqlite(engine: Engine, head: str) -> None:
    """Check, copy and migrate while no other process can write."""
    own = create_engine(engine.url, poolclass=NullPool)
    event.listen(own, "connect", _by_hand)
    event.listen(own, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    file = str(engine.url.database)
    with own.begin() as connection:
        version = _version(connection)
        if version == head:  # another process was first
            return
        _refuse_strangers(version, head)
        if _own_tables(connection):
            copy = _copy(file, version or "unfinished")
            _undo_half_upgrade(connection, version, file)
            if version:
                _log.warning(
                    "loop: the store goes from version %s to %s; as it was: %s", version, head, copy
                )
        _migrate(connection, "head")
        if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
            raise StoreError(
                f"the store {file} stays at version {version}: {len(broken)} of its rows name rows "
                f"that are not there, the first in {broken[0][0]}"
            )


def _by_hand(connection: sqlite3.Connection, record: Any) -> None:
    # The driver begins no transaction before DDL, so that every statement would be kept alone:
    # https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable
    sqlite_pragmas(connection, record)
    connection.isolation_level = None
    # Copying a table that others point to would delete what points to it.
    connection.execute("PRAGMA foreign_keys=OFF")


def _migrate(connection: Connection, version: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _refuse_strangers(version: str | None, head: str) -> None:
    known = {p.name.split("_")[0] for p in (MIGRATIONS / "versions").glob("[0-9]*.py")}
    if version is None or version in known:
        return
    if len(version) == len(head) and version.isdigit():
        raise StoreError(
            f"the store has the tables of version {version}, this loop_pipeline knows {head} and "
            "older: install the newer one again, or name another store in LOOP_DATABASE_URL"
        )
    raise StoreError(
        f"LOOP_DATABASE_URL names another program's database (its version is {version}): "
        "give the loop a database of its own"
    )


def _own_tables(connection: Connection) -> set[str]:
    """Tables of the loop, and half-made copies of them, that are there."""
    there = set(inspect(connection).get_table_names())
    return {name for name in there if name.removeprefix(COPY) in Base.metadata.tables}


def _copy(file: str, version: str) -> Path:
    """A whole copy of the store, made while nobody writes; an older one of that version goes."""
    copy = Path(f"{file}.before-{version}")
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
        source.backup(target)
    part.replace(copy)
    return copy


def _undo_half_upgrade(connection: Connection, version: str | None, file: str) -> None:
    """Take away what an upgrade by an older loop_pipeline left behind when it was killed.

    Until 0.1 each statement was kept alone. Whatever its version lacks was made by the migration
    that did not end: nothing has ever written there. Only empty tables go.

    Raises:
        StoreError: something is missing, or a table that should not be there has rows.
    """
    should = _tables_of(version)
    found = {name: _columns(connection, name) for name in _own_tables(connection)}
    too_many = set(found) - set(should)
    full = {n for n in too_many if connection.scalar(text(f'select 1 from "{n}" limit 1'))}  # noqa: S608
    missing = {n for n, (columns, _) in should.items() if columns - found.get(n, set())}
    if wrong := full | (missing - set(DERIVED)):
        raise StoreError(_half_made(wrong, file))
    for name in too_many:
        connection.exec_driver_sql(f'DROP TABLE "{name}"')
    for name, (columns, statement) in should.items():
        if name in DERIVED and found.get(name) != columns:
            connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{name}"')
            connection.exec_driver_sql(statement)
            continue
        for column in found[name] - columns:
            _drop_column(connection, name, column)


def _drop_column(connection: Connection, table: str, column: str) -> None:
    for index in inspect(connection).get_indexes(table):
        if column in index["column_names"]:
            connection.exec_driver_sql(f'DROP INDEX "{index["name"]}"')
    connection.exec_driver_sql(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')


def _tables_of(version: str | None) -> dict[str, tuple[set[str], str]]:
    """Columns of each table in a store of that version, and the statement that makes it."""
    if version is None:
        return {}
    empty = create_engine("sqlite://", poolclass=StaticPool)
    with empty.begin() as connection:
        _migrate(connection, version)
        made = connection.exec_driver_sql("select name, sql from sqlite_master where type='table'")
        statements = {row.name: row.sql for row in made}
        own = _own_tables(connection)
        return {name: (_columns(connection, name), statements[name]) for name in own}


def _columns(connection: Connection, table: str) -> set[str]:
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _half_made(tables: set[str], where: str) -> str:
    return (
        f"{where} holds tables that no version of the loop has made whole "
        f"({', '.join(sorted(tables)[:3])}): put a backup in its place, or name an empty database"
    )


def _damaged(engine: Engine, error: sqlite3.DatabaseError) -> str:
    return (
        f"the store {engine.url.database} is damaged or no SQLite database ({error}): put a backup "
        "in its place, or move it away to begin with an empty store"
    )
