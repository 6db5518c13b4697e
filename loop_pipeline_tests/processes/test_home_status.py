"""What can be said of a home: with nothing there, with the store away, with everything there."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.processes.home_status import home_status
from loop_pipeline.processes.state_file import sole, write_state
from loop_pipeline.processes.status_text import status_text
from loop_pipeline.settings import load_settings
from loop_pipeline.store.policies import activate_policy
from loop_pipeline.traces.ingest import import_file

NOW = dt.datetime(2026, 9, 4, tzinfo=dt.UTC)


def _text(now: dt.datetime = NOW) -> str:
    return status_text(home_status(load_settings()), now)


def test_a_home_where_nothing_ever_ran_is_said_to_be_one_and_stays_as_it_is(
    loop_environment: Path,
) -> None:
    text = _text()
    assert "nothing; `loop up` starts the live loop" in text
    assert "traces     none yet" in text
    assert "0 spool segments (0 B); 0 rows in quarantine; 0 reviews" in text
    assert "none: everything goes to the frontier" in text
    assert "while it does not run, none of them does" in text
    assert not loop_environment.exists()


def test_a_store_that_is_away_takes_only_its_own_lines_with_it(
    loop_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg2://loop:hunter2@127.0.0.1:1/loop"
    monkeypatch.setenv("LOOP_DATABASE_URL", url)
    spool = loop_environment / "spool"
    spool.mkdir(parents=True)
    (spool / "a.jsonl").write_text("x" * 2048)
    (spool / "b.open").write_text("x" * 512)
    (spool / "c.open").touch()
    text = _text()
    assert "refused" in text
    assert "2 spool segments (2.5 KiB), written to" in text
    assert "a running gateway keeps the one it has" in text
    assert "hunter2" not in text


def test_what_is_in_the_store_is_counted_and_dated(
    engine: Engine, trace: Callable[..., dict[str, Any]], jsonl: Callable[..., Path]
) -> None:
    lines = [trace(number) for number in range(3)]
    import_file(engine, jsonl(*lines, "no json"))
    assert "none: everything goes to the frontier" in _text()
    with engine.begin() as connection:
        activate_policy(connection, sha256="ab" * 32, bundle="{}", checkpoint_id=None)
    text = _text(dt.datetime(2026, 9, 3, 12, 30, tzinfo=dt.UTC))
    assert "3 in the store; the newest request is 2 h old" in text
    assert "1 rows in quarantine; 0 reviews" in text
    assert "abababababab, for" in text


def test_processes_are_listed_with_what_is_wrong_with_them(loop_environment: Path) -> None:
    service = {
        "name": "shipper",
        "pid": 77,
        "url": "",
        "state": "died",
        "note": "ended with code 3 after 0 s; 3 in a row",
        "restarts": 3,
        "since": "2026-09-03T23:58:00+00:00",
        "log": "shipper.log",
    }
    facts = {
        "command": "loop up",
        "pid": os.getpid(),
        "started_at": "2026-09-01T00:00:00+00:00",
        "services": [service],
    }
    with sole(loop_environment, "loop up"):
        write_state(loop_environment, facts)
        text = _text()
        assert f"`loop up` (pid {os.getpid()}, for 3 d)" in text
        row = next(line for line in text.splitlines() if line.startswith("shipper  "))
        assert row.split() == ["shipper", "77", "-", "died", "3", "2", "min"]
        assert "shipper: ended with code 3 after 0 s; 3 in a row" in text
        write_state(loop_environment, facts | {"pid": 2**22 + 1})
        assert "was killed; what it left is being ended" in _text()
    assert "nothing; `loop up`" in _text()
