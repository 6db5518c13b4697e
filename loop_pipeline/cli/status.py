"""``loop status``: what runs, what waits, and which policy is in force.

How it is found out is in `processes`.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import typer

from loop_pipeline.settings import load_settings


def status(
    tables: Annotated[
        bool, typer.Option("--tables", help="Count the rows of every table instead.")
    ] = False,
) -> None:
    """Say what runs, how old the newest trace is, what waits, and which policy is in force."""
    if tables:
        _tables()
        return
    from loop_pipeline.processes.home_status import home_status
    from loop_pipeline.processes.status_text import status_text

    typer.echo(status_text(home_status(load_settings()), dt.datetime.now(dt.UTC)))


def _tables() -> None:
    from loop_pipeline.store.database import count, open_store
    from loop_pipeline.store.tables import Base

    engine = open_store(load_settings().store_url)
    for mapper in sorted(Base.registry.mappers, key=lambda m: m.class_.__tablename__):
        table: Any = mapper.class_
        typer.echo(f"{table.__tablename__:22} {count(engine, table):>10,}")
