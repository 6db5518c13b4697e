"""``loop rollout``, ``loop rollback``, ``loop history``: who serves, and who decided it."""

from __future__ import annotations

from typing import Annotated

import typer

from loop_pipeline.cli.common import open_settings_and_store

rollout = typer.Typer(no_args_is_help=True, help="Watch, advance or end a canary.")


Why = Annotated[str, typer.Option(help="Goes into the history.")]


@rollout.command("status")
def rollout_status() -> None:
    """Say who is on trial, in which stage, and what the evidence says."""
    from loop_pipeline.rollout.commands import describe

    typer.echo(describe(open_settings_and_store()[1]))


@rollout.command("advance")
def rollout_advance(reason: Why = "asked for") -> None:
    """Take the canary one stage on; after the last it is the champion."""
    from loop_pipeline.rollout.commands import advance_rollout

    settings, engine = open_settings_and_store()
    typer.echo(advance_rollout(engine, settings, actor="loop rollout advance", reason=reason))


@rollout.command("stop")
def rollout_stop(reason: Why = "asked for") -> None:
    """End the canary: the champion's policy as it was before."""
    from loop_pipeline.rollout.commands import stop_rollout

    settings, engine = open_settings_and_store()
    typer.echo(stop_rollout(engine, settings, actor="loop rollout stop", reason=reason))


@rollout.command("sync")
def rollout_sync() -> None:
    """Let MLflow's alias `champion` follow the policy in force."""
    from loop_pipeline.rollout.commands import tell

    settings, engine = open_settings_and_store()
    typer.echo(tell(engine, settings).strip() or "MLflow names the champion that serves")


def rollback(
    reason: Why = "asked for",
    force: Annotated[
        bool, typer.Option(help="Also if a replica does not serve the earlier student.")
    ] = False,
) -> None:
    """Return to the policy before this one: student, thresholds and prompts in one step."""
    from loop_pipeline.rollout.commands import return_to_previous, tell

    settings, engine = open_settings_and_store()
    bundle = return_to_previous(engine, settings, actor="loop rollback", reason=reason, force=force)
    typer.echo(f"{bundle.student['adapter']} serves again by policy {bundle.sha256[:12]}")
    if problem := tell(engine, settings):
        typer.echo(problem.strip())


def history() -> None:
    """List who served what, since when, by whose decision and why."""
    from loop_pipeline.rollout.commands import history as lines

    for line in lines(open_settings_and_store()[1]):
        typer.echo(line)
