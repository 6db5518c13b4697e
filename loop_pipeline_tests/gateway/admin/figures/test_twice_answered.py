"""Answers to the same request find each other, and each is read once."""

from __future__ import annotations

import datetime as dt

import pytest
from sqlalchemy import Engine

from loop_pipeline.gateway.admin.figures import twice_answered
from loop_pipeline.gateway.admin.figures.twice_answered import Both, TwiceAnswered
from loop_pipeline_tests.gateway.admin.live_store import beside, line, store

NOON = dt.datetime(2026, 9, 2, 12, tzinfo=dt.UTC)
FIRST = "2026-09-01"


def read(twice: TwiceAnswered, engine: Engine, first: str = FIRST) -> list[Both]:
    with engine.connect() as connection:
        return twice.read(connection, first)


def test_only_what_is_new_is_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = twice_answered.drawn_answers

    def noted(connection, ids):
        asked.extend(ids)
        return answers(connection, ids)

    monkeypatch.setattr(twice_answered, "drawn_answers", noted)
    mains = [line(f"r{i}", NOON, "student", route={"shadow": True}) for i in range(20)]
    twice = TwiceAnswered()
    store(engine, [*mains[:9], *(beside(main, "delivery") for main in mains[:9])])
    assert len(read(twice, engine)) == 9
    store(engine, [*mains[9:], *(beside(main, "refund") for main in mains[9:])])
    found = read(twice, engine)
    assert (len(found), sum(both.agrees for both in found)) == (20, 9)
    assert read(twice, engine) == found
    assert len(asked) == len(set(asked)) == 40


@pytest.mark.parametrize("first", ["student", "frontier"])
def test_the_other_answer_may_come_later_and_after_midnight(engine: Engine, first: str) -> None:
    main = line("r", NOON.replace(hour=23), "student", route={"shadow": True})
    other = beside(main, "delivery", ts=(NOON + dt.timedelta(days=1)).isoformat())
    twice = TwiceAnswered()
    store(engine, [main if first == "student" else other])
    assert read(twice, engine) == []
    store(engine, [other if first == "student" else main])
    assert [(both.day, both.agrees) for both in read(twice, engine)] == [("2026-09-02", True)]
    assert read(twice, engine, "2026-09-03") == [], "the day has passed"


def test_an_answer_of_a_student_that_did_not_go_out_is_none_of_them(engine: Engine) -> None:
    main = line("r", NOON, "escalated", route={"shadow": True})
    asked = beside(main, "delivery", prompt_id="r~student", producer="student")
    store(engine, [main, asked])
    assert read(TwiceAnswered(), engine) == []


@pytest.mark.parametrize("later_first", [False, True])
def test_the_frontiers_second_answer_is_held_against_its_first_and_no_students(
    engine: Engine, later_first: bool
) -> None:
    main = line("r", NOON, "student", route={"shadow": True})
    first, second = beside(main, "delivery"), beside(main, "refund", prompt_id="r~again")
    second["route"] = second["route"] | {"again": True}
    escalated = line("e", NOON, "escalated", route={"shadow": True})
    other = beside(escalated, "delivery", prompt_id="e~again")
    other["route"] = other["route"] | {"again": True}
    twice = TwiceAnswered()
    parts = [[main, second], [first, escalated, other]]
    for part in reversed(parts) if later_first else parts:
        store(engine, part)
        read(twice, engine)
    assert [both.agrees for both in read(twice, engine)] == [True]
    assert sorted((pair.unit, pair.agrees) for pair in twice.again) == [("e", True), ("r", False)]
