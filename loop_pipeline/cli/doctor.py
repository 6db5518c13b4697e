"""``loop doctor``: the routing report with its controls, as text, JSON and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loop_pipeline.settings import load_settings


def doctor(
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help="A CSV or JSONL table of your own instead of the store: prompt_id, text, group "
            "(optional), and for each model NAME.quality (0 to 1), NAME.cost (USD) and "
            "NAME.score (optional: its confidence in its answer)."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with plots.")] = None,
) -> None:
    """Say whether the router earns its keep, beside controls that know less or everything."""
    from loop_pipeline.doctor.examine import diagnose
    from loop_pipeline.doctor.html_report import page
    from loop_pipeline.doctor.terminal_report import text

    settings = load_settings()
    if outcomes is None:
        from loop_pipeline.doctor.from_store import outcomes_in_force
        from loop_pipeline.store.database import open_store

        found = outcomes_in_force(open_store(settings.store_url, settings.app), settings)
    else:
        from loop_pipeline.doctor.outcome_table import read_table
        from loop_pipeline.doctor.rehearsal import rehearse

        found = rehearse(
            read_table(outcomes), target=settings.target_agreement, delta=settings.delta
        )
    report = diagnose(found)
    if html is not None:
        html.write_text(page(report), encoding="utf-8")
    typer.echo(report.to_json() if json else text(report))
