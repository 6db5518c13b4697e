"""``loop import`` and ``loop ship``: files of traces, and captured traffic, into the store.

Not here: how (``traces/ingest.py``, ``gateway/ship.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from loop_pipeline.settings import load_settings

REVIEWS = typer.Option(
    "--reviews", help="The files hold reviewers' verdicts, too; vouch for whoever wrote them."
)
ZONE = typer.Option("--zone", help="Time zone of times that name none, such as Europe/Berlin.")


def import_traces(
    files: list[Path],
    reviews: Annotated[bool, REVIEWS] = False,
    zone: Annotated[str, ZONE] = "UTC",
) -> None:
    """Import JSON-lines files of traces and feedback. Twice the same file: the same rows.

    Exit status: 1 if a file could not be read, 3 if over a tenth of its lines went to quarantine.
    """
    from loop_pipeline.store.database import open_store
    from loop_pipeline.traces.importers.import_files import UnreadableFile
    from loop_pipeline.traces.ingest import import_file

    try:
        known = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(
            f"--zone {zone}: no time zone of this name, such as UTC or Europe/Berlin"
        ) from None
    settings = load_settings()
    engine = open_store(settings.store_url)
    worst = 0
    for path in files:
        try:
            done = import_file(
                engine,
                path,
                secret=settings.secret,
                reviews=reviews,
                zone=known,
                prices=settings.prices,
            )
        except (UnreadableFile, FileNotFoundError) as error:
            # The other files can be read all the same.
            typer.echo(f"loop: {error}", err=True)
            worst = 1
            continue
        typer.echo(f"{path}: {done}")
        for remark in done.remarks(settings.first_day.isoformat()):
            typer.echo(f"  {remark}")
        worst = 1 if 1 in (worst, done.exit_status) else max(worst, done.exit_status)
    raise typer.Exit(worst)


def ship(
    once: Annotated[bool, typer.Option(help="End when nothing is left to bring in.")] = False,
) -> None:
    """Bring captured traffic into the store, as it comes; killed at any point it loses nothing."""
    from loop_pipeline.gateway.ship import ship as bring
    from loop_pipeline.store.database import open_store

    settings = load_settings()
    spool = settings.home / "spool"
    if not once:
        typer.echo(f"shipping from {spool}; Ctrl-C ends it")
    try:
        done = bring(
            lambda: open_store(settings.store_url),
            spool,
            once=once,
            say=typer.echo,
            secret=settings.secret,
            prices=settings.prices,
        )
    except KeyboardInterrupt:
        return
    typer.echo(done)
