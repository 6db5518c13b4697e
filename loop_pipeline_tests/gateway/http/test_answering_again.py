"""A share of shadowed requests is asked twice: the second answer is kept, costs, and is no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.store.shadow_answers import shadowed_answers
from loop_pipeline.traces.ingest import import_file
from loop_pipeline_tests.gateway.small_policy import messages, routed_live, router
from loop_pipeline_tests.raw_server import RawServer
from loop_pipeline_tests.upstream import Upstream

ROUTER = router()
MANY = 60


def rows_of(
    home: Path, frontier: Upstream, student: RawServer, rate: float
) -> dict[str, dict[str, Any]]:
    with routed_live(home, frontier.url, student.url, frontier_again_rate=rate) as running:
        for number in range(MANY):
            asked = {"model": "auto", "messages": messages(number, "certified")}
            said = running.post(json=asked, headers={"x-loop-prompt-id": f"r{number}"})
            assert said.status_code == 200
        running.stop()
        return {row["prompt_id"]: row for row in running.rows()}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.asking.patience.LEAST_S", 60.0)


def test_every_shadowed_request_has_a_second_answer_of_the_frontier_at_a_rate_of_one(
    tmp_path: Path, frontier: Upstream, student: RawServer, engine: Engine
) -> None:
    rows = rows_of(tmp_path / "home", frontier, student, 1.0)
    drawn = {
        f"r{n}" for n in range(MANY) if ROUTER.decide(messages(n, "certified"), f"r{n}").shadow
    }
    second = {name: row for name, row in rows.items() if name.endswith("~again")}
    assert len(drawn) > 5
    assert set(second) == {f"{name}~again" for name in drawn}
    for name, row in second.items():
        assert (row["producer"], row["model"]) == ("frontier", "big")
        assert row["route"]["shadow_of"] == name.removesuffix("~again")
        assert row["route"]["again"] is True
        assert row["tokens_in"]
    # As many calls as before, and one for each of these.
    others = [r for n, r in rows.items() if r["producer"] == "frontier" and n not in second]
    assert len(frontier.asked) == len(others) + len(second)

    lines = tmp_path / "home" / "spool"
    for path in sorted(lines.glob("*.jsonl")):
        import_file(engine, path)
    found = frontier_twice(engine)
    assert found.whole is not None
    assert (found.whole.asked, found.whole.agreed) == (len(drawn), len(drawn))
    # Students are held against the first answer, once a request.
    assert len(shadowed_answers(engine)) == len(drawn) * len(ROUTER.adapters)


def test_at_a_rate_of_zero_nobody_is_asked_twice(
    tmp_path: Path, frontier: Upstream, student: RawServer
) -> None:
    rows = rows_of(tmp_path / "home", frontier, student, 0.0)
    assert not [name for name in rows if name.endswith("~again")]
