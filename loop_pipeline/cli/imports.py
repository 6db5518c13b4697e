"""``loop import``, ``loop ship``, ``loop quarantine``: traffic into the store, and what stayed out.

Not here: how (``traces/ingest.py``, ``gateway/ship.py``, ``traces/quarantine``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from loop_pipeline.cli.common import open_settings_and_store
from loop_pipeline.masking import mask_record
from loop_pipeline.settings import load_settings

REVIEWS = typer.Option(
    "--reviews", help="The files hold reviewers' verdicts, too; vouch for whoever wrote them."
)
ZONE = typer.Option("--zone", help="Time zone of times that name none, such as Europe/Berlin.")


SOURCE = typer.Option("--source", help="Only lines of this file, as `list` names it.")
REASON = typer.Option("--reason", help="Only lines with these words in their reason.")

quarantine = typer.Typer(
    no_args_is_help=True, help="Lines that could not be used: listed, shown, tried again."
)


def import_traces(
    files: list[Path],
    reviews: Annotated[bool, REVIEWS] = False,
    zone: Annotated[str, ZONE] = "UTC",
) -> None:
    """Import files of traces and feedback, or folders of them. Twice the same file: the same rows.

    Exit status: 1 if a file could not be read, 3 if over a tenth of its lines went to quarantine.
    """
    from loop_pipeline.store.database import open_store
    from loop_pipeline.traces.import_summary import Imported
    from loop_pipeline.traces.importers.import_files import UnreadableFile, files_in
    from loop_pipeline.traces.ingest import import_file

    known = _zone(zone)
    settings = load_settings()
    engine = open_store(settings.store_url)
    total, worst, unread, paths = Imported(), 0, 0, files_in(files)
    for path in paths:
        try:
            done = import_file(
                engine,
                path,
                secret=settings.secret,
                reviews=reviews,
                zone=known,
                prices=settings.prices,
            )
        except (UnreadableFile, OSError) as error:
            # The other files can be read all the same.
            typer.echo(f"loop: {error}", err=True)
            worst, unread = 1, unread + 1
            continue
        typer.echo(f"{path}: {done}")
        for remark in done.remarks(settings.first_day.isoformat()):
            typer.echo(f"  {remark}")
        total.add(done)
        total.waiting = done.waiting
        worst = 1 if 1 in (worst, done.exit_status) else max(worst, done.exit_status)
    if len(paths) > 1:
        refused = f", {unread} could not be read" if unread else ""
        typer.echo(f"{len(paths)} files{refused}: {total}")
    if total.quarantined or total.quarantined_known:
        typer.echo("what is in quarantine and why: loop quarantine list")
    raise typer.Exit(worst)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"--zone {name}: no time zone of this name, such as UTC or Europe/Berlin"
        ) from None


@quarantine.command("list")
def quarantine_list(
    source: Annotated[str | None, SOURCE] = None,
    reason: Annotated[str | None, REASON] = None,
) -> None:
    """List what could not be used: how many lines of which file and day, for which reason."""
    from loop_pipeline.traces.quarantine.quarantine_list import chosen, in_quarantine

    found = in_quarantine(open_settings_and_store()[1], chosen(source, reason))
    for kind, names in found.kinds.items():
        where = mask_record(f"{kind.source}, {kind.day}")
        typer.echo(f"{len(names):7,}  {where}  first: {names[0][:12]}")
        typer.echo(f"         {mask_record(kind.reason)[:300]}")
    lines = sum(len(names) for names in found.kinds.values())
    waiting = f"; {found.waiting:,} feedback wait for their trace" if found.waiting else ""
    typer.echo(f"{lines:,} lines in quarantine{waiting}")
    if lines:
        typer.echo("one in full, and what to do: loop quarantine show ID")


@quarantine.command("show")
def quarantine_show(
    line_id: Annotated[str, typer.Argument(metavar="ID", help="Or how it begins.")],
) -> None:
    """Show a line as it came, why it could not be used, and what to do. Secrets are masked."""
    from loop_pipeline.traces.quarantine.quarantine_list import LATER, advice, line_in_full

    row, history = line_in_full(open_settings_and_store()[1], line_id)
    gone = any(tried["imported"] for tried in history)
    typer.echo(f"id      {row['quarantine_id']}")
    typer.echo(
        f"from    {mask_record(row['source'])}, line {row['line']}, on {row['ts']:%F %T} UTC"
    )
    for tried in history:
        became = "imported" if tried["imported"] else "still bad, for another reason"
        typer.echo(
            f"tried   {tried['at']:%F %T} UTC: {became}; it was {mask_record(tried['reason'])}"
        )
    if not gone:
        typer.echo(f"reason  {mask_record(row['reason'])}")
        what = "nothing: it is joined when its trace comes" if row["prompt_id"] else None
        typer.echo(f"to do   {what or advice(row['reason']) + '; ' + LATER}")
    typer.echo(f"line    {mask_record(row['raw'])}")


@quarantine.command("retry")
def quarantine_retry(
    line_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Or how they begin; none: all.")
    ] = None,
    source: Annotated[str | None, SOURCE] = None,
    reason: Annotated[str | None, REASON] = None,
    reviews: Annotated[bool, REVIEWS] = False,
    zone: Annotated[str, ZONE] = "UTC",
) -> None:
    """Import lines from the quarantine again: what can be used now leaves it, the rest says why.

    For after an upgrade, or with an option that was missing at the import. Exit status: 3 if lines
    stay.
    """
    from loop_pipeline.labels.reviews.spreadsheets import SHEET, verdict_again
    from loop_pipeline.traces.importers.jsonl import parse_line
    from loop_pipeline.traces.quarantine.quarantine_list import chosen
    from loop_pipeline.traces.quarantine.quarantine_retry import retry

    known = _zone(zone)
    settings, engine = open_settings_and_store()
    done = retry(
        engine,
        chosen(source, reason, tuple(line_ids or ())),
        lambda row: (
            verdict_again(row["raw"])
            if row["source"].startswith(SHEET)
            else parse_line(row["raw"].encode(), known)
        ),
        secret=settings.secret,
        reviews=lambda name: reviews or name.startswith(SHEET),
        prices=settings.prices,
    )
    typer.echo(done)
    raise typer.Exit(3 if done.stayed or done.not_tried else 0)


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
