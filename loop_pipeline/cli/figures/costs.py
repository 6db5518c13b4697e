"""``loop costs``: which answers have no price, and what answers would cost at today's prices.

Not here: the prices (``costs/prices.py``), and the bill (``loop report``).
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from loop_pipeline.cli.common import open_settings_and_store

costs = typer.Typer(no_args_is_help=True, help="Costs: pays, unpriced, reprice.")
DAY = "UTC day, such as 2026-09-01."


@costs.command()
def unpriced() -> None:
    """List models whose answers have no price, and how many these are."""
    from loop_pipeline.costs.unpriced import what_to_do
    from loop_pipeline.store.unpriced_traces import unpriced_models

    settings, engine = open_settings_and_store()
    models = unpriced_models(engine)
    for model, count in sorted(models.items(), key=lambda item: (-item[1], item[0])):
        typer.echo(f"{count:>10,}  {model}")
    what = what_to_do(models) if models else f"every answer has a price ({settings.prices.version})"
    typer.echo(what)


@costs.command()
def pays() -> None:
    """Show what the policy in force costs, and from how many requests an hour on it pays."""
    from loop_pipeline.report.bill import routed_costs
    from loop_pipeline.report.words.cost_words import cost_sentence, load_sentence
    from loop_pipeline.rollout.stored_policies import in_force, student_of

    settings, engine = open_settings_and_store()
    bundle = in_force(engine)
    if bundle is None or not student_of(bundle):
        typer.echo("no student is in force: the frontier answers everything, and nothing is saved")
        return
    found = routed_costs(engine, settings, bundle)
    if found is None:
        typer.echo("no answer of the frontier has a price: nothing can be said of a saving")
        return
    typer.echo(cost_sentence(found))
    typer.echo(f"{load_sentence(found)}.")


@costs.command()
def reprice(
    first: Annotated[str, typer.Argument(metavar="FROM", help=DAY)],
    last: Annotated[str, typer.Argument(metavar="TO", help=f"Last {DAY}")],
    fill: Annotated[
        bool, typer.Option("--fill", help="Write prices of answers that have none; no others.")
    ] = False,
) -> None:
    """Show what the frontier's answers cost, and would cost at today's prices, by model."""
    from loop_pipeline.report.reprice import reprice as priced_anew
    from loop_pipeline.report.reprice import reprice_lines

    days = [_day(text) for text in (first, last)]
    settings, engine = open_settings_and_store()
    lines = priced_anew(engine, settings.prices, *days, fill=fill)
    for line in reprice_lines(lines, filled=fill):
        typer.echo(line)


def _day(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text}: write a day, such as 2026-09-01") from None
