"""``loop review``: what waits for people, and their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loop_pipeline.cli.common import open_settings_and_store

review = typer.Typer(help="Review answers: the plan, MLflow's review desk, spreadsheets.")


@review.callback(invoke_without_command=True)
def review_plan(context: typer.Context) -> None:
    """Say what waits for review, and how many reviews which promise takes."""
    if context.invoked_subcommand is None:
        review_status()


@review.command("status")
def review_status() -> None:
    """Say what waits for review, and how many reviews which promise takes."""
    from loop_pipeline.labels.reviews.review_status import describe

    settings, engine = open_settings_and_store()
    for line in describe(engine, settings):
        typer.echo(line)


@review.command("push")
def review_push() -> None:
    """Lay what waits for review out in MLflow, after fetching what was said there."""
    from loop_pipeline.labels.reviews.mlflow_push import push_queue, review_tracking

    review_pull()
    settings, engine = open_settings_and_store()
    new, where = push_queue(engine, review_tracking(settings.mlflow_target()))
    typer.echo(f"{new} new items on the review desk: {where}")


@review.command("pull")
def review_pull() -> None:
    """Fetch what reviewers said in MLflow."""
    from loop_pipeline.labels.reviews.mlflow_pull import pull_verdicts
    from loop_pipeline.labels.reviews.mlflow_push import review_tracking
    from loop_pipeline.labels.reviews.queue import take_reviews_in

    settings, engine = open_settings_and_store()
    done = pull_verdicts(engine, review_tracking(settings.mlflow_target()))
    typer.echo(f"from the review desk: {done.feedback_only()}")
    for warning in take_reviews_in(engine):
        typer.echo(warning)


@review.command("export")
def review_export(
    file: Annotated[Path, typer.Argument(help="Ends in .csv or .jsonl.")],
    limit: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Only what this person has not reviewed.")
    ] = None,
) -> None:
    """Write what waits for review as a sheet to fill in."""
    from loop_pipeline.labels.reviews.queue import open_items
    from loop_pipeline.labels.reviews.spreadsheets import write_sheet

    items = open_items(open_settings_and_store()[1], reviewer=reviewer, limit=limit)
    write_sheet(items, file)
    typer.echo(f"{len(items)} items in {file}: fill in `good` (yes or no)")


@review.command("import")
def review_import(
    file: Path,
    reviewer: Annotated[
        str, typer.Option(help="Whose verdicts they are, where the sheet names nobody.")
    ],
) -> None:
    """Take a filled-in sheet in. Twice the same sheet: the same rows."""
    from loop_pipeline.labels.reviews.queue import take_reviews_in
    from loop_pipeline.labels.reviews.spreadsheets import read_sheet

    engine = open_settings_and_store()[1]
    typer.echo(f"{file}: {read_sheet(engine, file, reviewer=reviewer)}")
    for warning in take_reviews_in(engine):
        typer.echo(warning)
