"""Requests that the frontier answered twice are found, whoever asked twice, and only these."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
from sqlalchemy import Engine

from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.store.database import upsert
from loop_pipeline.store.shadow_answers import shadowed_answers
from loop_pipeline.store.tables import GroupMemberRow
from loop_pipeline.traces.importers.jsonl import parse_line
from loop_pipeline.traces.ingest import import_records

NOON = dt.datetime(2026, 9, 1, 12, tzinfo=dt.UTC)


def line(name: str, output: str, text: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "prompt_id": name,
        "ts": NOON.isoformat(),
        "messages": [{"role": "user", "content": text or f"where is order {name}?"}],
        "output": output,
        "model": "big",
        "task": "orders",
        "contract": {"kind": "label", "labels": ["delivery", "refund"]},
        **fields,
    }


def again(main: dict[str, Any], output: str, **route: Any) -> dict[str, Any]:
    """A second answer of the frontier, as the gateway writes it or a team imports it."""
    name = main["prompt_id"].split("~")[0]
    return main | {
        "prompt_id": f"{name}~again",
        "output": output,
        "producer": "frontier",
        "route": {"shadow_of": name, "shadow": True, "again": True} | route,
    }


def store(engine: Engine, lines: list[dict[str, Any]]) -> None:
    records = [(i, r) for i, row in enumerate(lines) for r in parse_line(orjson.dumps(row))]
    done = import_records(engine, records, source="test")
    assert done.quarantined == 0, done


def test_nothing_asked_twice_is_nothing_measured(engine: Engine) -> None:
    assert frontier_twice(engine).whole is None
    store(engine, [line(f"r{i}", "delivery") for i in range(5)])
    assert frontier_twice(engine).whole is None


def test_second_answers_are_counted_by_group_and_task(engine: Engine) -> None:
    mains = [line(f"r{i:03}", "delivery", task="a" if i % 2 else "b") for i in range(100)]
    others = [again(m, "refund" if i % 10 == 0 else "delivery") for i, m in enumerate(mains)]
    store(engine, [*mains, *others])
    members = [
        {"prompt_id": m["prompt_id"], "group_id": "g1" if i % 10 < 5 else "g2"}
        | {"distance": 0.1, "x": 0.0, "y": 0.0}
        for i, m in enumerate(mains)
    ]
    with engine.begin() as connection:
        upsert(connection, GroupMemberRow, members)
    found = frontier_twice(engine, "big")
    assert found.whole is not None
    assert (found.whole.asked, found.whole.agreed, found.whole.drawn) == (100, 90, True)
    assert {g: (c.asked, c.agreed) for g, c in found.ceilings.items() if g != "all"} == {
        "g1": (50, 40),
        "g2": (50, 50),
    }
    assert {t: (c.asked, c.agreed) for t, c in found.tasks.items()} == {
        "a": (50, 50),
        "b": (50, 40),
    }
    assert found.same["r000"] is found.same["r000~again"] is False
    assert frontier_twice(engine, "another").whole is None


def test_a_served_request_has_its_two_answers_beside_it(engine: Engine) -> None:
    shadow = {"shadow": True, "arm": "student", "adapter": "s"}
    served = line("r1", "delivery", producer="student", route=shadow)
    first = again(served, "delivery") | {"prompt_id": "r1~frontier"}
    first["route"] = {"shadow_of": "r1", "shadow": True}
    store(engine, [served, first, again(served, "refund")])
    found = frontier_twice(engine)
    assert found.whole is not None
    assert (found.whole.asked, found.whole.agreed) == (1, 0)
    # The student is held against the first answer, once.
    rows = shadowed_answers(engine)
    assert rows[["prompt_id", "frontier_output"]].values.tolist() == [["r1~frontier", "delivery"]]


def test_broken_answers_and_answers_of_another_model_are_no_pair(engine: Engine) -> None:
    mains = [line(f"r{i}", "delivery") for i in range(2)]
    cut = again(mains[0], "del") | {"finish_reason": "broken"}
    store(engine, [*mains, cut, again(mains[1], "refund") | {"model": "bigger"}])
    assert frontier_twice(engine).whole is None


def test_repeats_count_where_nothing_was_drawn_and_are_called_so(engine: Engine) -> None:
    repeats = [line(f"r{i}", "delivery", "the same question") for i in range(3)]
    repeats[1]["output"] = "refund"
    store(engine, repeats)
    found = frontier_twice(engine)
    assert found.whole is not None
    assert (found.whole.asked, found.whole.agreed, found.whole.drawn) == (1, 0, False)
    assert found.same == {}, "a promise rests on what was drawn"
    main = line("x", "delivery")
    store(engine, [main, again(main, "delivery")])
    found = frontier_twice(engine)
    assert found.whole is not None
    assert (found.whole.asked, found.whole.agreed, found.whole.drawn) == (1, 1, True)


def test_turns_of_a_conversation_are_one_unit(engine: Engine) -> None:
    mains = [line(f"r{i:03}", "delivery", conversation_id=f"c{i // 10}") for i in range(100)]
    others = [again(m, "refund" if i < 30 else "delivery") for i, m in enumerate(mains)]
    store(engine, [*mains, *others])
    whole = frontier_twice(engine).whole
    assert whole is not None
    assert whole.value == 0.7
    assert whole.low < 0.4, "ten conversations, of which three, say little"
