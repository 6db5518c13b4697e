"""No question of the page, and none of the gateway's parent, reads all traces."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from loop_pipeline.gateway.access import copies
from loop_pipeline.gateway.admin.figures.day_totals import DayTotals
from loop_pipeline_tests.gateway.admin.live_store import beside, line, store

NOW = dt.datetime.now(dt.UTC)
EXPLAIN = {"sqlite": "explain query plan ", "postgresql": "explain "}


@contextmanager
def plans(engine: Engine) -> Iterator[dict[str, str]]:
    """How the database answers each question that is asked meanwhile, by the question."""
    found: dict[str, str] = {}

    def explain(connection: Any, _c: Any, asked: str, parameters: Any, *_: Any) -> None:
        if asked.startswith("SELECT") and asked not in found:
            found[asked] = ""
            cursor = connection.connection.driver_connection.cursor()
            # Of a few rows it would read all, whatever indexes there are.
            if engine.dialect.name == "postgresql":
                cursor.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
            cursor.execute(EXPLAIN[engine.dialect.name] + asked, parameters)
            found[asked] = "\n".join(str(row[-1]) for row in cursor.fetchall())
            cursor.close()

    event.listen(engine, "before_cursor_execute", explain)
    yield found
    event.remove(engine, "before_cursor_execute", explain)


def fill(engine: Engine) -> None:
    """Some traces, a few of which the coin drew."""
    lines = [line(f"r{i}", NOW, "student", route={"shadow": i < 3}) for i in range(40)]
    store(engine, [*lines, *(beside(one, "delivery") for one in lines[:3])])


def test_each_question_of_the_page_is_answered_by_an_index(engine: Engine) -> None:
    fill(engine)
    with plans(engine) as found:
        view = DayTotals().view(engine, ["r1"], NOW)
    assert len(view.both) == 3
    about = {asked: plan for asked, plan in found.items() if "FROM traces" in asked}
    assert len(about) >= 5
    for asked, plan in about.items():
        assert "SCAN traces" not in plan, (asked, plan)
        assert "Seq Scan on traces" not in plan, (asked, plan)
    assert sum("ix_traces_drawn" in plan for plan in about.values()) == 2
    newest = next(plan for asked, plan in about.items() if "ORDER BY traces.day DESC" in asked)
    assert "ix_traces_day_ts" in newest
    assert "TEMP B-TREE" not in newest, "the newest come in their order, none is sorted"
    assert "Sort" not in newest


def test_the_contracts_are_found_by_an_index_of_the_traces_that_have_one(engine: Engine) -> None:
    fill(engine)
    with plans(engine) as found, engine.connect() as connection:
        assert set(copies._contracts(connection)) == {"desk"}
    plan = next(plan for asked, plan in found.items() if "FROM traces" in asked)
    assert "ix_traces_contracted" in plan
    assert "Sort" not in plan.partition("Limit")[2]
