"""Sums of live traffic are those of the rows, whoever brought them and however often."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, delete, select, text

from loop_pipeline.store import upgrade
from loop_pipeline.store.incoming import live_sums
from loop_pipeline.store.incoming.live_sums import minute_of
from loop_pipeline.store.tables import LiveDayRow, LiveMinuteRow
from loop_pipeline.traces import ingest
from loop_pipeline.traces.importers.jsonl import parse_line
from loop_pipeline.traces.ingest import import_records
from loop_pipeline_tests.gateway.admin.live_store import beside, line, policy, store

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


def days(engine: Engine) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Stored sums by key."""
    table: Any = LiveDayRow.__table__
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(table))]
    # Floats are added in another order by another way.
    return {row[:6]: (row[6], round(row[7], 9), *row[8:]) for row in rows}


def minutes(engine: Engine) -> dict[tuple[str, str], int]:
    """Stored counts by minute and lane."""
    table: Any = LiveMinuteRow.__table__
    with engine.connect() as connection:
        return {(m, lane): n for m, lane, n in connection.execute(select(table))}


def recount(engine: Engine) -> None:
    """Throw the sums away and count the stored rows, as the migration does."""
    path = next((upgrade.MIGRATIONS / "versions").glob("*_live_sums.py"))
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), names)
    with engine.begin() as connection:
        for table in (LiveDayRow, LiveMinuteRow):
            connection.execute(delete(table))
        names["op"] = type("op", (), {"get_bind": staticmethod(lambda: connection)})
        names["_count"]()


def traffic() -> list[dict[str, Any]]:
    """Every lane, two groups, two policies, two days, a canary, and a foreign log."""
    yesterday = NOW - dt.timedelta(days=1, minutes=5)
    lines = [line(f"s{i}", NOW - dt.timedelta(seconds=i), "student") for i in range(5)]
    lines += [line(f"e{i}", NOW, "escalated", route={"canary": i == 0}) for i in range(3)]
    lines += [line(f"f{i}", yesterday, "frontier", route={"policy": None}) for i in range(2)]
    lines += [beside(lines[0], "refund")]
    return [*lines, line("old", NOW, "frontier") | {"route": None}]


def test_the_sums_are_those_of_the_rows(engine: Engine) -> None:
    store(engine, traffic())
    day, sha = NOW.date().isoformat(), policy().sha256
    found = days(engine)
    assert sum(sums[0] for sums in found.values()) == 11
    if (NOW - dt.timedelta(seconds=5)).date().isoformat() == day:
        first = NOW - dt.timedelta(seconds=4)
        assert found[day, "student", sha, "g1", False, ""] == (5, 0.0, 400, 20, first)
    assert found[day, "escalated", sha, "g1", True, ""][:2] == (1, 0.01)
    assert sum(sums[0] for key, sums in found.items() if key[1:3] == ("frontier", "")) == 2
    assert sum(sums[0] for key, sums in found.items() if key[1] == "beside") == 1


def test_a_migration_counts_what_is_stored_as_an_import_does(engine: Engine) -> None:
    store(engine, traffic())
    before, of_minutes = days(engine), minutes(engine)
    recount(engine)
    assert days(engine) == before
    assert minutes(engine) == of_minutes


def test_a_trace_that_comes_again_is_not_counted_again(engine: Engine) -> None:
    lines = traffic()
    store(engine, lines[:4])
    store(engine, lines)
    once = days(engine)
    store(engine, lines)
    assert days(engine) == once
    recount(engine)
    assert days(engine) == once


def test_a_batch_that_the_database_refuses_is_counted_row_by_row(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(connection: Any, rows: Any) -> None:
        rows = list(rows)
        live_sums.count_live(connection, rows)
        if any(row["prompt_id"] == "s3" for row in rows):
            raise ValueError("nobody thought of this")

    monkeypatch.setattr(ingest, "count_live", refuses)
    lines = traffic()
    records = [(i, r) for i, row in enumerate(lines) for r in parse_line(orjson.dumps(row))]
    assert import_records(engine, records, source="spool").quarantined == 1
    counted = days(engine)
    recount(engine)
    assert days(engine) == counted
    assert sum(sums[0] for sums in counted.values()) == 10


def test_imports_at_once_lose_no_count(engine: Engine) -> None:
    def bring(own: Iterable[dict[str, Any]]) -> None:
        store(engine, own)

    lines = [line(f"r{i}", NOW, ("student", "frontier")[i % 2]) for i in range(3000)]
    # Each brings a third of its own and a third that another brings too.
    threads = [threading.Thread(target=bring, args=(lines[k * 1000 :][:1500],)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sums[0] for sums in days(engine).values()) == 3000
    assert sum(minutes(engine).values()) == 3000


def test_minutes_of_the_last_day_are_kept_and_old_ones_go(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = NOW - dt.timedelta(hours=30)
    store(engine, [line("a", old, "frontier")])
    assert minutes(engine) == {}
    monkeypatch.setattr(live_sums, "KEPT", dt.timedelta(hours=40))
    store(engine, [line("b", old, "frontier")])
    assert minutes(engine) == {(minute_of(old), "frontier"): 1}
    monkeypatch.undo()
    store(engine, [line("c", NOW, "student")])
    assert minutes(engine) == {(minute_of(NOW), "student"): 1}


def test_strange_routes_of_foreign_logs_are_stored_and_counted(engine: Engine) -> None:
    routes: list[Any] = [
        {"arm": "frontier", "group_id": "g" * 10_000},
        {"arm": "frontier", "group_id": ["a"], "policy": {"b": 1}, "canary": "yes"},
        {"arm": 7, "shadow": "perhaps"},
        {"shadow_of": "x", "shadow": [1]},
        {"arm": "", "shadow": True},
        {},
    ]
    store(engine, [line(f"r{i}", NOW, "frontier") | {"route": r} for i, r in enumerate(routes)])
    assert sum(sums[0] for sums in days(engine).values()) == 4


def test_a_price_that_is_found_later_is_counted(engine: Engine) -> None:
    own = {"model": "own-9", "served_model": "own-9", "cost_usd": None}
    store(engine, [line(f"f{i}", NOW, "frontier", **own) for i in range(3)])
    assert {key[5]: sums[:2] for key, sums in days(engine).items()} == {"own-9": (3, 0.0)}
    recount(engine)
    assert {key[5]: sums[:2] for key, sums in days(engine).items()} == {"own-9": (3, 0.0)}
    with engine.begin() as connection:
        live_sums.priced_later(connection, {"f0": 0.5, "f1": 0.25})
        for name, usd in (("f0", 0.5), ("f1", 0.25)):
            connection.execute(text(f"update traces set cost_usd={usd} where prompt_id='{name}'"))
    found = days(engine)
    assert {key[5]: sums[:2] for key, sums in found.items()} == {"own-9": (1, 0.0), "": (2, 0.75)}
    recount(engine)
    assert days(engine) == found


def test_a_trace_that_is_erased_was_asked_and_paid_for(engine: Engine, tmp_path: Path) -> None:
    store(engine, traffic())
    before = days(engine)
    with engine.begin() as connection:
        connection.execute(text("delete from trace_units"))
        connection.execute(text("delete from traces"))
    assert days(engine) == before
    assert json.dumps(sorted(map(str, before))).count("g1")
