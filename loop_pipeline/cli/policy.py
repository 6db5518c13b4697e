"""``loop policy``: read, compare and sign routing policies, and hold groups back."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Which = Annotated[
    str, typer.Argument(help="A file, active, previous, canary, or the beginning of a sha256.")
]
Group = Annotated[str, typer.Argument(help="Its name, its id, or the beginning of that.")]
about = "Show, compare and sign routing policies; hold task groups back."
policy = typer.Typer(no_args_is_help=True, help=about)


@policy.command()
def show(which: Which = "active") -> None:
    """Say in a few lines what a policy promises, group by group."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.group_holds import lines_of_holds
    from loop_pipeline.rollout.policy_text import summary
    from loop_pipeline.rollout.stored_policies import find_document, find_policy
    from loop_pipeline.routing.policy_files import unsigned_because

    settings, engine = open_settings_and_store()
    for line in summary(find_policy(engine, which)):
        typer.echo(line)
    # The one on trial is part of the policy in force, and signed with it.
    document = find_document(engine, "active" if which == "canary" else which)
    problem = unsigned_because(document, settings.secret())
    typer.echo(f"not obeyed here: {problem}" if problem else "signed by this installation")
    for line in lines_of_holds(engine):
        typer.echo(line)


@policy.command()
def diff(old: Which, new: Which) -> None:
    """Say in words what changed from one policy to another."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.policy_text import differences
    from loop_pipeline.rollout.stored_policies import find_policy

    engine = open_settings_and_store()[1]
    before, after = find_policy(engine, old), find_policy(engine, new)
    typer.echo(f"{before.sha256[:12]} -> {after.sha256[:12]}")
    for line in differences(before, after) or ["nothing: they are the same document"]:
        typer.echo(f"  {line}")


@policy.command()
def sign(which: Which = "active") -> None:
    """Sign a stored policy and those before it, so that they are obeyed here. Look at it first."""
    from loop_pipeline.artifacts import policy_folder
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.stored_policies import sign_policy

    settings, engine = open_settings_and_store()
    folder, count = policy_folder(settings), 0
    for bundle in sign_policy(engine, folder, which, settings.secret()):
        typer.echo(f"policy {bundle.sha256[:12]} is signed")
        count += 1
    if not count:
        typer.echo("nothing to do: it is signed already")


@policy.command("hold")
def hold_group(
    group: Group, reason: Annotated[str, typer.Option(help="Shown wherever the hold is.")]
) -> None:
    """Let the frontier answer a task group for now, whatever the policy promises."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.group_holds import hold

    engine = open_settings_and_store()[1]
    typer.echo(hold(engine, group, actor="loop policy hold", reason=reason))


@policy.command("release")
def release_group(
    group: Group, reason: Annotated[str, typer.Option(help="Goes into the history.")]
) -> None:
    """End the hold of a task group: the policy in force decides again."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.rollout.group_holds import release

    engine = open_settings_and_store()[1]
    typer.echo(release(engine, group, actor="loop policy release", reason=reason))


@policy.command("risk")
def risk() -> None:
    """Look at the promises now, as the sensor risk_watch does: act on what is due, and say it."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.monitoring.risk_text import lines_of_look
    from loop_pipeline.monitoring.risk_watch import look
    from loop_pipeline.rollout.group_holds import lines_of_holds
    from loop_pipeline.store.watch.alerts import open_alerts
    from loop_pipeline.store.watch.shadow_rates import shadow_rates

    settings, engine = open_settings_and_store()
    for line in lines_of_look(look(engine, blind_hours=settings.blind_hours)):
        typer.echo(line)
    for row in shadow_rates(engine):
        typer.echo(f"{row['rate']:.0%} of group {row['group_id'][:8]} is shadowed: {row['reason']}")
    for line in lines_of_holds(engine):
        typer.echo(line)
    for row in open_alerts(engine):
        typer.echo(f"alert since {row['at']:%Y-%m-%d %H:%M}, {row['cause']}: {row['text']}")


@policy.command()
def schema() -> None:
    """Print the JSON schema of the policy document."""
    from loop_pipeline.routing.policy_files import schema as published

    typer.echo(json.dumps(published(), indent=1))
