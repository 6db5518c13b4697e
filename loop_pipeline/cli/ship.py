"""``loop ship``: captured traffic into the store.

Not here: how (``gateway/ship.py``).
"""

from __future__ import annotations

from typing import Annotated

import typer

from loop_pipeline.settings import load_settings


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
        )
    except KeyboardInterrupt:
        return
    typer.echo(done)
