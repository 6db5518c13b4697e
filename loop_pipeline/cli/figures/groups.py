"""``loop groups``: look at the task groups, rename one, see what became of them."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import Engine

groups = typer.Typer(no_args_is_help=True, help="Task groups: list, rename, lineage.")


@groups.command("list")
def list_groups(
    everything: Annotated[
        bool, typer.Option("--all", help="Also groups that ended or wait.")
    ] = False,
) -> None:
    """List the groups with their ids, sizes and names; parts stand under their group."""
    from loop_pipeline.groups.lineage import group_lines

    lines = group_lines(_engine(), everything=everything)
    for line in lines or ["no task groups yet: materialize task_groups"]:
        typer.echo(line)


@groups.command()
def rename(
    group_id: Annotated[str, typer.Argument(help="Id of the group, or how it begins.")],
    name: str,
) -> None:
    """Give a group a name; no refit changes it."""
    from loop_pipeline.groups.lineage import rename_group

    typer.echo(f"{rename_group(_engine(), group_id, name)} is now called {name}")


@groups.command()
def lineage(
    group_id: Annotated[str | None, typer.Argument(help="Only of this group.")] = None,
) -> None:
    """Say which groups were born, split, merged or retired, when and why."""
    from loop_pipeline.groups.lineage import lineage_lines

    for line in lineage_lines(_engine(), group_id) or ["nothing has changed yet"]:
        typer.echo(line)


def _engine() -> Engine:
    from loop_pipeline.settings import load_settings
    from loop_pipeline.store.database import open_store

    settings = load_settings()
    return open_store(settings.store_url, settings.app)
