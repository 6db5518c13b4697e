"""Questions to the store, and the few ways to write to it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import (
    Connection,
    Engine,
    Select,
    create_engine,
    delete,
    event,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

from loop_pipeline.store.tables import (
    Base,
    CheckpointRow,
    ContractRow,
    DatasetRow,
    FeedbackRow,
    LabeledPairRow,
    PolicyRow,
    QualityModelRow,
    QualityScoreRow,
    SupersededPairRow,
    TraceRow,
    TraceUnitRow,
    UtcDateTime,
)

# SQLite takes at most 32,766 variables in one statement.
CHUNK = 10_000


def open_store(url: str) -> Engine:
    """Connect to the store and bring its schema up to date.

    Raises:
        sqlalchemy.exc.OperationalError: the database cannot be reached.
    """
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_pragmas)
    _upgrade(engine)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    # WAL: readers do not block the writer; 30 s: the gateway and a run may write at once.
    for pragma in (
        "journal_mode=WAL",
        "foreign_keys=ON",
        "busy_timeout=30000",
        "synchronous=NORMAL",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _upgrade(engine: Engine) -> None:
    migrations = Path(__file__).parent / "migrations"
    head = max(p.name.split("_")[0] for p in (migrations / "versions").glob("[0-9]*.py"))
    with engine.connect() as connection:
        if (
            inspect(connection).has_table("alembic_version")
            and connection.scalar(text("select version_num from alembic_version")) == head
        ):
            return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # two processes may start at once
            connection.execute(text("select pg_advisory_xact_lock(7316)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
    _insert(connection, table, rows)


def replace_pairs(
    connection: Connection, days: Sequence[str], rows: Sequence[dict[str, Any]]
) -> int:
    """Make these pairs the only ones of their days; those that go are kept as superseded.

    Returns:
        How many were superseded.
    """
    table: Any = LabeledPairRow.__table__
    new = {row["pair_id"] for row in rows}
    now: dict[str, list[str]] = {}
    for row in rows:
        now.setdefault(row["prompt_id"], []).append(f"{row['kind']}: {row['reason']}")
    found = connection.execute(select(table).where(table.c.day.in_(days))).mappings()
    moment = dt.datetime.now(dt.UTC)
    gone = [
        dict(old)
        | {
            "superseded_at": moment,
            "instead": "; ".join(now.get(old["prompt_id"], ["nothing is learned from it"])),
        }
        for old in found
        if old["pair_id"] not in new
    ]
    _insert(connection, SupersededPairRow, gone)
    replace_days(connection, LabeledPairRow, days, rows)
    return len(gone)


def settle_splits(
    connection: Connection, units: Sequence[dict[str, Any]], moved: Mapping[str, Sequence[str]]
) -> None:
    """Write the units of newly settled traces, and the splits that differ from the draw.

    Args:
        connection: of the transaction.
        units: rows of ``TraceUnitRow``.
        moved: prompt ids by their new split.
    """
    _insert(connection, TraceUnitRow, units)
    table: Any = TraceRow.__table__
    for split, prompt_ids in moved.items():
        for start in range(0, len(prompt_ids), CHUNK):
            chunk = prompt_ids[start : start + CHUNK]
            connection.execute(
                table.update().where(table.c.prompt_id.in_(chunk)).values(split=split)
            )


def replace_all(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Make these rows the only ones of their table."""
    connection.execute(delete(table))
    _insert(connection, table, rows)


def _insert(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.__table__.insert(), list(rows))  # pyright: ignore[reportAttributeAccessIssue]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a frame as dictionaries in which missing values are None."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # pyright: ignore[reportReturnType]


def stored_outputs(connection: Connection, prompt_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(dedup_key, output) of the traces that are there, by prompt id."""
    known: dict[str, tuple[str, str]] = {}
    columns = select(TraceRow.prompt_id, TraceRow.dedup_key, TraceRow.output)
    for start in range(0, len(prompt_ids), CHUNK):
        chunk = prompt_ids[start : start + CHUNK]
        for prompt_id, key, output in connection.execute(
            columns.where(TraceRow.prompt_id.in_(chunk))
        ):
            known[prompt_id] = (key, output)
    return known


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


def read_traces(engine: Engine, *, days: Iterable[str] | None = None, **equal: Any) -> pd.DataFrame:
    """Traces with their contracts (column ``contract``: dict or None)."""
    frame = read(engine, TraceRow, days=days, **equal)
    contracts = read(engine, ContractRow).set_index("contract_id")["body"].to_dict()
    frame["contract"] = pd.Series(
        [contracts.get(key) for key in frame["contract_id"]], index=frame.index, dtype=object
    )
    return frame


def read_feedback(
    engine: Engine, *, days: Iterable[str] | None = None, kind: str | None = None
) -> pd.DataFrame:
    """Feedback on the traces of these days, oldest first, whenever it came; of one kind or all."""
    mapped = FeedbackRow.__table__
    statement = select(mapped).join(TraceRow, TraceRow.prompt_id == FeedbackRow.prompt_id)
    if days is not None:
        statement = statement.where(TraceRow.day.in_(list(days)))
    if kind is not None:
        statement = statement.where(FeedbackRow.kind == kind)
    return query(engine, statement.order_by(mapped.c.ts, mapped.c.feedback_id))


def count(engine: Engine, table: type[Base], **equal: Any) -> int:
    """Number of rows of a table."""
    statement = select(func.count()).select_from(table)
    for name, value in equal.items():
        statement = statement.where(table.__table__.c[name] == value)
    with engine.connect() as connection:
        return connection.scalar(statement) or 0


def count_validated_pairs(engine: Engine) -> int:
    """Pairs that a student may learn from."""
    return count(engine, LabeledPairRow, kind="sft")


def pairs_last_trained(engine: Engine) -> tuple[int, dt.datetime | None]:
    """Validated pairs when a student was last trained, and when; (0, None) before the first."""
    statement = (
        select(DatasetRow.validated_pairs, CheckpointRow.created_at)
        .join(CheckpointRow, CheckpointRow.dataset_id == DatasetRow.dataset_id)
        .order_by(CheckpointRow.created_at.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(statement).first()
    return (row[0], row[1]) if row else (0, None)


def newest_checkpoint(engine: Engine, *statuses: str) -> dict[str, Any] | None:
    """The newest checkpoint, or the newest that has one of these statuses."""
    statement = select(CheckpointRow.__table__).order_by(CheckpointRow.created_at.desc())
    if statuses:
        statement = statement.where(CheckpointRow.status.in_(statuses))
    return _first(engine, statement)


def set_checkpoint(engine: Engine, checkpoint_id: str, **values: Any) -> None:
    """Change columns of a checkpoint, all of them or none."""
    set_checkpoints(engine, {checkpoint_id: values})


def set_checkpoints(engine: Engine, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Change columns of checkpoints (values by checkpoint id), all of them or none."""
    table: Any = CheckpointRow.__table__
    with engine.begin() as connection:
        for checkpoint_id, columns in values.items():
            connection.execute(
                table.update().where(table.c.checkpoint_id == checkpoint_id).values(**columns)
            )


def newest_dataset(engine: Engine) -> dict[str, Any] | None:
    """The training set that was frozen last."""
    return _first(engine, select(DatasetRow.__table__).order_by(DatasetRow.created_at.desc()))


def newest_quality_model(engine: Engine) -> dict[str, Any] | None:
    """The quality score in use: the one fitted last."""
    table = QualityModelRow.__table__
    return _first(engine, select(table).order_by(table.c.created_at.desc()))


def days_touched(engine: Engine, since: dt.datetime) -> dict[str, dt.datetime]:
    """Labelled days that got feedback after a moment, with the moment of the newest."""
    scored = select(QualityScoreRow.day).distinct()
    newest = func.max(FeedbackRow.received_at, type_=UtcDateTime)
    statement = (
        select(TraceRow.day, newest)
        .join(FeedbackRow, FeedbackRow.prompt_id == TraceRow.prompt_id)
        .where(FeedbackRow.received_at > since, TraceRow.day.in_(scored))
        .group_by(TraceRow.day)
        .order_by(TraceRow.day)
    )
    with engine.connect() as connection:
        return {day: moment for day, moment in connection.execute(statement)}  # noqa: C416


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


def _first(engine: Engine, statement: Select[Any]) -> dict[str, Any] | None:
    with engine.connect() as connection:
        row = connection.execute(statement.limit(1)).mappings().first()
    return dict(row) if row else None


def active_policy(engine: Engine) -> dict[str, Any] | None:
    """The routing policy in force."""
    return _first(engine, select(PolicyRow.__table__).where(PolicyRow.active_to.is_(None)))


def activate_policy(
    connection: Connection, *, sha256: str, bundle: str, checkpoint_id: str | None
) -> None:
    """Make this policy the one in force; a policy that is in force already stays as it is."""
    current = connection.scalar(select(PolicyRow.sha256).where(PolicyRow.active_to.is_(None)))
    if current == sha256:
        return
    now = dt.datetime.now(dt.UTC)
    table: Any = PolicyRow.__table__
    connection.execute(table.update().where(table.c.active_to.is_(None)).values(active_to=now))
    row = {
        "sha256": sha256,
        "bundle": bundle,
        "checkpoint_id": checkpoint_id,
        "active_from": now,
        "active_to": None,
    }
    upsert(connection, PolicyRow, [row])
