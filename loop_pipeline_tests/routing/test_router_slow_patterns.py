"""A student's answer is judged in time, whatever pattern its contract holds."""

from __future__ import annotations

import json

import pytest

from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.router import Router
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.shared import ends

SLOW = {
    "(a|aa)+$": "a" * 60 + "b",
    "^(a+)+$": "a" * 3000 + "b",
    "(x+x+)+y": "x" * 5000,
    r"\p{L}+(\p{L}+)+$": "é" * 5000 + "1",
    r"(.*)*\1z": "a" * 5000,
    "(?i)(ß|ss)+$": "ß" * 500 + "!",
    # Slow to be made ready, not to be matched.
    "(a{1000}){1000}": "a",
    "(((a{500}){500}){500})": "a",
    "a{1000000000}": "a",
    "(?:(?:[ab]{90}x){90}y){90}": "a",
    "(" * 900 + "a" + ")" * 900: "b",
    "((?:a{99}){99}){99}|" * 60: "a",
}


@pytest.fixture(scope="module")
def router(world: World, bundle: PolicyBundle) -> Router:
    return Router.load(bundle, world.embedder)


@pytest.mark.parametrize(("pattern", "value"), SLOW.items(), ids=[name[:24] for name in SLOW])
@pytest.mark.parametrize("many", [1, 2000])
def test_a_slow_pattern_escalates_in_time(
    router: Router, world: World, pattern: str, value: str, many: int
) -> None:
    row = world.answers[world.answers["group_id"] != "unassigned"].iloc[0]
    asked = [{"role": "user", "content": row["text"]}]
    decision = router.decide(asked, "x", row["template_hash"])
    part = {"type": "string", "pattern": pattern}
    contract = {"kind": "json", "schema": {"type": "array", "items": part}}
    answer = json.dumps([value[-(400_000 // many) :]] * many)
    with ends():
        settled = router.settle(decision, answer, [-0.001], contract, finish_reason="stop")
    assert settled.action == "escalate"
    assert "match" in settled.reason or "cannot be" in settled.reason


def test_usual_patterns_are_checked_as_before(router: Router, world: World) -> None:
    row = world.answers[world.answers["group_id"] != "unassigned"].iloc[0]
    asked = [{"role": "user", "content": row["text"]}]
    decision = router.decide(asked, "x", row["template_hash"])
    for pattern, value in {
        r"^\d{4}-\d{2}-\d{2}$": "2026-09-04",
        r"^.{1,100000}$": "x",
        r"^(?:[a-z0-9-]{1,63}\.){1,10}[a-z]{2,63}$": "shop.example",
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$": "01234567-89ab-cdef-0123-456789abcdef",
    }.items():
        contract = {"kind": "json", "schema": {"type": "string", "pattern": pattern}}
        answer = json.dumps(value)
        settled = router.settle(decision, answer, [-0.001], contract, finish_reason="stop")
        assert settled.action == "serve", pattern
