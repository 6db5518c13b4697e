"""``loop keys``: who may call the gateway.

How a key is checked is in `gateway.access`; a running gateway follows within 5 s.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import Annotated, Any

import typer

keys = typer.Typer(no_args_is_help=True, help="Keys of applications: add, list, revoke.")

PREFIX = "lk_"
# Shown of a digest, enough to name a key.
SHOWN = 12


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    app: Annotated[
        str, typer.Option(help="The application: fences traces and feedback.")
    ] = "default",
    role: Annotated[
        list[str] | None,
        typer.Option(help="call, feedback, ingest, admin; call and feedback if none."),
    ] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(min=0, help="USD a day (UTC).")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Expires after so many days.")] = None,
) -> None:
    """Make a key and show it, once: only its digest is stored."""
    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.gateway.access.access import ROLES
    from loop_pipeline.store.database import insert_new
    from loop_pipeline.store.tables import AccessKeyRow

    roles = sorted(set(role or ["call", "feedback"]))
    if unknown := set(roles) - ROLES:
        raise ValueError(
            f"no role {', '.join(sorted(unknown))}; there are {', '.join(sorted(ROLES))}"
        )
    if not name.strip() or not app.strip():
        raise ValueError("a key needs a name, and its application too")
    limits = {"parallel": parallel, "per_minute": per_minute, "usd_per_day": usd_per_day}
    key = PREFIX + secrets.token_urlsafe(32)
    now = dt.datetime.now(dt.UTC)
    row: dict[str, Any] = {
        "key_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "name": name.strip(),
        "app": app.strip(),
        "roles": roles,
        "limits": {field: value for field, value in limits.items() if value is not None},
        "created_at": now,
        "expires_at": now + dt.timedelta(days=days) if days else None,
        "revoked_at": None,
    }
    with open_settings_and_store()[1].begin() as connection:
        insert_new(connection, AccessKeyRow, [row])
    typer.echo(key)
    typer.echo(
        f"{row['key_sha256'][:SHOWN]}: {row['name']}, app {row['app']}, {', '.join(roles)}; "
        "the key is shown only now",
        err=True,
    )


@keys.command("list")
def list_keys() -> None:
    """Show every key by the beginning of its digest; never the key."""
    from sqlalchemy import select

    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.store.tables import AccessKeyRow

    table: Any = AccessKeyRow.__table__
    with open_settings_and_store()[1].connect() as connection:
        rows = connection.execute(select(table).order_by(table.c.created_at)).mappings().all()
    if not rows:
        typer.echo("no keys: the gateway answers this machine only, and asks for none")
    for row in rows:
        limits = ", ".join(f"{name} {value:g}" for name, value in sorted(row["limits"].items()))
        state = _state(row["revoked_at"], row["expires_at"])
        typer.echo(
            f"{row['key_sha256'][:SHOWN]}  {row['name']}  app {row['app']}  "
            f"{' '.join(row['roles'])}  {limits or 'no limits'}  {state}"
        )


@keys.command()
def revoke(
    which: Annotated[str, typer.Argument(help="Its name, or the beginning of its digest.")],
) -> None:
    """Take a key back; a running gateway refuses it within 5 s."""
    from sqlalchemy import or_, select, update

    from loop_pipeline.cli.common import open_settings_and_store
    from loop_pipeline.store.tables import AccessKeyRow

    table: Any = AccessKeyRow.__table__
    meant = or_(table.c.name == which, table.c.key_sha256.startswith(which, autoescape=True))
    with open_settings_and_store()[1].begin() as connection:
        open_keys = table.c.revoked_at.is_(None)
        found = connection.execute(select(table).where(meant, open_keys)).mappings().all()
        if not which or len(found) != 1:
            raise ValueError(f"{len(found)} keys are meant by {which!r}: see `loop keys list`")
        key = table.c.key_sha256 == found[0]["key_sha256"]
        connection.execute(update(table).where(key).values(revoked_at=dt.datetime.now(dt.UTC)))
    typer.echo(f"revoked: {found[0]['key_sha256'][:SHOWN]} {found[0]['name']}")


def _state(revoked: dt.datetime | None, expires: dt.datetime | None) -> str:
    if revoked:
        return f"revoked {revoked:%Y-%m-%d %H:%M}"
    if expires is None:
        return "does not expire"
    zoned = expires if expires.tzinfo else expires.replace(tzinfo=dt.UTC)
    return f"{'expired' if zoned <= dt.datetime.now(dt.UTC) else 'expires'} {expires:%Y-%m-%d}"
