"""What is evidence: served, drawn, answered by the frontier too, the first of its conversation."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine

from loop_pipeline.monitoring.watched_rows import take_rows
from loop_pipeline.stats.e_process import LIFE
from loop_pipeline.store.database import read
from loop_pipeline.store.holds import hold_group, release_group
from loop_pipeline.store.tables import WatchedAnswerRow
from loop_pipeline_tests.monitoring.served import ADAPTER, GROUP, NOW, serve, served
from loop_pipeline_tests.serving.examples import add_traces

STREAM = (GROUP, ADAPTER, 0)


def test_each_pair_is_taken_once_and_late_answers_when_they_come(engine: Engine) -> None:
    assert take_rows(engine, NOW) == {}
    serve(engine, good=3, bad=1)
    add_traces(engine, *served(9, frontier=False), *served(10, shadow=False))
    whole, broken = served(11)
    add_traces(engine, whole)
    add_traces(engine, broken | {"finish_reason": "broken"})
    assert take_rows(engine, NOW) == {STREAM: 4}
    assert take_rows(engine, NOW) == {}
    add_traces(engine, *served(9)[1:])
    assert take_rows(engine, NOW) == {STREAM: 1}
    rows = read(engine, WatchedAnswerRow).sort_values("position")
    assert rows["position"].tolist() == [1, 2, 3, 4, 5]
    assert rows["disagrees"].tolist() == [False, False, False, True, False]


def test_of_a_conversation_one_answer_counts_while_a_process_lives(engine: Engine) -> None:
    add_traces(engine, *(row for n in range(4) for row in served(n, conversation="long")))
    assert take_rows(engine, NOW) == {STREAM: 1}
    add_traces(engine, *served(5, conversation="long"), *served(6, conversation=None))
    assert take_rows(engine, NOW) == {STREAM: 1}
    serve(engine, good=LIFE, start=100)
    take_rows(engine, NOW)
    add_traces(engine, *served(7, conversation="long"))
    assert take_rows(engine, NOW) == {STREAM: 1}, "every process that counted it has ended"


def test_a_clock_that_jumps_changes_no_order_and_loses_nothing(engine: Engine) -> None:
    serve(engine, good=2)
    assert take_rows(engine, NOW) == {STREAM: 2}
    serve(engine, good=1, start=10, ts=NOW + dt.timedelta(days=400))
    serve(engine, good=1, start=20, ts=NOW - dt.timedelta(days=3))
    assert take_rows(engine, NOW - dt.timedelta(days=2)) == {STREAM: 2}
    serve(engine, good=1, start=30, ts=NOW + dt.timedelta(hours=1))
    assert take_rows(engine, NOW + dt.timedelta(hours=1)) == {STREAM: 1}
    assert sorted(read(engine, WatchedAnswerRow)["position"]) == [1, 2, 3, 4, 5]


def test_after_a_release_everything_is_judged_anew(engine: Engine) -> None:
    serve(engine, good=0, bad=5)
    take_rows(engine, NOW)
    hold_group(engine, GROUP, reason="r", actor="ann")
    release_group(engine, GROUP, actor="ann", reason="looked at them")
    serve(engine, good=2, start=50)
    assert take_rows(engine, NOW) == {(GROUP, ADAPTER, 1): 2}
