"""`loop keys`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from loop_pipeline.cli.main import app
from loop_pipeline.gateway.access.copies import Copies
from loop_pipeline.store.tables import AccessKeyRow

run = CliRunner()


def test_a_key_is_shown_once_and_stored_as_its_digest(engine: Engine) -> None:
    options = ["--app", "desk", "--role", "call", "--role", "admin", "--parallel", "4"]
    options += ["--usd-per-day", "2.5", "--days", "30"]
    done = run.invoke(app, ["keys", "add", "the desk", *options])
    key = done.stdout.split()[0]
    assert key.startswith("lk_")
    assert len(key) > 40
    with engine.connect() as connection:
        (row,) = connection.execute(select(AccessKeyRow.__table__)).mappings()
    assert row["key_sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert (row["app"], row["roles"]) == ("desk", ["admin", "call"])
    assert row["limits"] == {"parallel": 4, "usd_per_day": 2.5}
    listed = run.invoke(app, ["keys", "list"]).stdout
    assert "the desk  app desk  admin call  parallel 4, usd_per_day 2.5  expires" in listed
    assert key not in listed


def test_a_revoked_key_is_in_no_copy(engine: Engine, tmp_path: Path) -> None:
    run.invoke(app, ["keys", "add", "one"])
    run.invoke(app, ["keys", "add", "two"])
    assert run.invoke(app, ["keys", "revoke", "one"]).exit_code == 0
    Copies(tmp_path / "copies", lambda: engine).refresh()
    text = (tmp_path / "copies" / "keys.json").read_text()
    assert '"two"' in text
    assert '"one"' not in text
    assert (tmp_path / "copies" / "keys.json").stat().st_mode & 0o077 == 0
    assert "revoked" in run.invoke(app, ["keys", "list"]).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "x", "--role", "boss"], "no role boss"),
        (["add", " "], "needs a name"),
        (["revoke", "nobody"], "0 keys are meant"),
        (["revoke", ""], "keys are meant"),
    ],
)
def test_what_cannot_be_meant_is_refused(engine: Engine, arguments: list[str], said: str) -> None:
    done = run.invoke(app, ["keys", *arguments])
    assert said in str(done.exception)


def test_two_of_one_name_are_revoked_by_their_digests(engine: Engine) -> None:
    for _ in range(2):
        run.invoke(app, ["keys", "add", "twin"])
    assert "2 keys are meant" in str(run.invoke(app, ["keys", "revoke", "twin"]).exception)
    first = run.invoke(app, ["keys", "list"]).stdout.split()[0]
    assert run.invoke(app, ["keys", "revoke", first]).exit_code == 0
