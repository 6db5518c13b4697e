"""From the request to the store: what the router decides is what happens, and what is kept."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import Engine, select

from loop_pipeline.store.tables import TraceRow
from loop_pipeline.traces.ingest import import_file
from loop_pipeline_tests.gateway.live import Live
from loop_pipeline_tests.gateway.small_policy import (
    THRESHOLD,
    frontier_says,
    messages,
    router,
    student_says,
)

ROUTER = router()
ADAPTER = ROUTER.adapters[0]
MANY = 3000


def _expected(number: int, template: str, prompt_id: str) -> tuple[str, str]:
    """Who answers a request, and what."""
    asked = messages(number, template)
    decision = ROUTER.decide(asked, prompt_id)
    text = asked[-1]["content"]
    if decision.arm == "frontier":
        return "frontier", frontier_says(text)
    said, logprobs = student_says(ADAPTER, text)
    served = sum(logprobs) >= THRESHOLD
    return ("student", said) if served else ("escalated", frontier_says(text))


def _ask(gateway: Live, number: int, template: str, **more: Any) -> Any:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(  # pyright: ignore[reportCallIssue]
        model="auto",
        messages=messages(number, template),  # pyright: ignore[reportArgumentType]
        extra_headers={"x-loop-prompt-id": f"r{number}"},
        **more,
    )
    return raw.headers, raw.parse()


@pytest.mark.parametrize("streamed", [False, True])
def test_each_is_answered_by_who_was_decided(routed: Live, streamed: bool) -> None:
    seen: Counter[str] = Counter()
    for number in range(40):
        template = "certified" if number % 4 else "refused"
        headers, said = _ask(routed, number, template, stream=streamed)
        if streamed:
            text = "".join(c.choices[0].delta.content or "" for c in said if c.choices)
        else:
            text = said.choices[0].message.content
            assert said.id == f"chatcmpl-r{number}"
        who, expected = _expected(number, template, f"r{number}")
        assert (headers["x-loop-route"], text) == (who, expected)
        assert headers["x-loop-policy"] == ROUTER.bundle.sha256
        assert headers["x-loop-model"] == (ADAPTER if who == "student" else "big")
        seen[who] += 1
    assert set(seen) == {"student", "escalated", "frontier"}


def test_the_client_may_insist_on_the_frontier(routed: Live) -> None:
    asked = {"model": "auto", "messages": messages(1)}
    said = routed.post(json=asked, headers={"x-loop-route": "frontier"})
    assert said.headers["x-loop-route"] == "frontier"
    assert routed.row(said.headers["x-loop-prompt-id"])["route"]["forced"] is True


TURNS = ("certified", "certified", "refused", "unknown")


@pytest.mark.slow
def test_the_store_has_exactly_what_the_router_decided(routed: Live, engine: Engine) -> None:
    def ask(number: int) -> None:
        asked = {"model": "auto", "messages": messages(number, TURNS[number % 4])}
        said = routed.post(json=asked, headers={"x-loop-prompt-id": f"r{number}"})
        assert said.status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(MANY)))
    routed.stop()
    for path in sorted(Path(routed.config.spool).glob("*.jsonl")):
        import_file(engine, path)
    with engine.connect() as connection:
        found = connection.execute(select(TraceRow.__table__)).mappings()
        rows = {row["prompt_id"]: dict(row) for row in found}
    beside = {name: row for name, row in rows.items() if row["route"].get("shadow_of")}
    assert len(rows) - len(beside) == MANY
    expected = [_check_kept(rows[f"r{number}"], number) for number in range(MANY)]
    assert set(beside) == set().union(*expected)
    for row in beside.values():
        _check_beside(row, rows[row["route"]["shadow_of"]])


def _check_kept(row: dict[str, Any], number: int) -> set[str]:
    """Hold a trace against the router. Returns ids of the answers that are kept beside it."""
    name, template, route = row["prompt_id"], TURNS[number % 4], row["route"]
    asked = messages(number, template)
    decision = ROUTER.decide(asked, name)
    who, text = _expected(number, template, name)
    rung = "student" if who == "student" else "frontier"
    found = (row["output"], row["producer"], route["rung"])
    assert found == (text, rung, rung), route["settled"]
    assert (route["arm"], route["group_id"]) == (decision.arm, decision.group_id)
    assert (route["propensity"], route["shadow"]) == (decision.propensity, decision.shadow)
    assert route["policy"] == ROUTER.bundle.sha256
    if decision.arm == "student":
        assert route["action"] == ("serve" if who == "student" else "escalate")
        _, logprobs = student_says(ADAPTER, asked[-1]["content"])
        assert route["score"] == pytest.approx(sum(logprobs))
    beside = set()
    if who == "escalated" or (decision.shadow and who == "frontier"):
        beside.add(f"{name}~{ADAPTER}")
    if decision.shadow and who == "student":
        beside.add(f"{name}~frontier")
    return beside


def _check_beside(row: dict[str, Any], asked: dict[str, Any]) -> None:
    """Hold an answer that did not go out against its request and against who gave it."""
    assert row["messages"] == asked["messages"]
    assert row["route"]["propensity"] == asked["route"]["propensity"]
    assert row["route"]["shadow"] == asked["route"]["shadow"]
    if row["producer"] == "student":
        said, logprobs = student_says(ADAPTER, row["messages"][-1]["content"])
        assert row["output"] == said
        assert row["logprobs"]["sum"] == pytest.approx(sum(logprobs))
