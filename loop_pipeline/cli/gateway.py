"""``loop gateway``: live traffic, in the foreground.

The gateway itself is in `gateway`; this reads the settings and ends it in order.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Annotated

import typer

from loop_pipeline.settings import load_settings


def gateway(
    host: Annotated[str | None, typer.Option(help="Instead of LOOP_GATEWAY_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of LOOP_GATEWAY_PORT; 0: any.")] = None,
    workers: Annotated[int | None, typer.Option(help="Instead of LOOP_GATEWAY_WORKERS.")] = None,
) -> None:
    """Answer live traffic: set your application's base_url to it; Ctrl-C ends it in order."""
    from loop_pipeline.gateway.config import config_from_settings
    from loop_pipeline.gateway.parent import Gateway
    from loop_pipeline.store.database import open_store

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    settings = load_settings()
    given = {"host": host, "port": port, "workers": workers}
    changes = {f"{name}": value for name, value in given.items() if value is not None}
    config = config_from_settings(settings, **changes)
    running = Gateway(config, settings, settings.secret(), lambda: open_store(settings.store_url))
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: running.stop())
    shown = f"[{config.host}]" if ":" in config.host else config.host
    typer.echo(f"the gateway listens: base_url http://{shown}:{running.port}/v1")
    if config.workers > 1:
        typer.echo("limits of keys are counted by each worker for itself")
    running.run()
