"""``loop policy``: read routing policies and compare them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Which = Annotated[
    str, typer.Argument(help="A file, active, previous, canary, or the beginning of a sha256.")
]
policy = typer.Typer(no_args_is_help=True, help="Show routing policies and compare them.")


@policy.command()
def show(which: Which = "active") -> None:
    """Say in a few lines what a policy promises, group by group."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.release import find_policy
    from loop_pipeline.routing.policy_text import summary

    for line in summary(find_policy(open_settings_and_store()[1], which)):
        typer.echo(line)


@policy.command()
def diff(old: Which, new: Which) -> None:
    """Say in words what changed from one policy to another."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.release import find_policy
    from loop_pipeline.routing.policy_text import differences

    engine = open_settings_and_store()[1]
    before, after = find_policy(engine, old), find_policy(engine, new)
    typer.echo(f"{before.sha256[:12]} -> {after.sha256[:12]}")
    for line in differences(before, after) or ["nothing: they are the same document"]:
        typer.echo(f"  {line}")


@policy.command()
def schema() -> None:
    """Print the JSON schema of the policy document."""
    from loop_pipeline.routing.policy import schema as published

    typer.echo(json.dumps(published(), indent=1))
