"""3,000 requests through the real gateway: the store then holds exactly what the router decides."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loop_pipeline.installation_secret import installation_secret
from loop_pipeline.routing.decision import Decision
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.store.database import open_store, records
from loop_pipeline.store.policies import activate_policy
from loop_pipeline.store.traces import read_traces
from loop_pipeline_tests.gateway.small_policy import (
    EMBEDDER,
    completion_bytes,
    frontier_says,
    messages,
    policy,
    router,
    student_says,
    words,
)
from loop_pipeline_tests.gateway.test_parent import Running
from loop_pipeline_tests.upstream import Asked, Script, Upstream, answer

pytestmark = pytest.mark.slow

REQUESTS = 3_000
TEMPLATES = ("certified", "certified", "certified", "refused", "unknown")
GIVEN_UP = "the student did not answer within"
JSON = {"content-type": "application/json"}


def frontier(asked: Asked) -> Script:
    """What the frontier says, by the request alone."""
    return answer(frontier_says(asked.json()["messages"][-1]["content"]), model="big-2026-09-01")


def vllm(asked: Asked) -> Script:
    """A student's server that holds the policy's adapter."""
    if asked.path.endswith("/models"):
        held = [{"id": "base", "parent": None}, {"id": policy().student["adapter"], "parent": "b"}]
        return Script(headers=JSON, parts=[str({"data": held}).replace("'", '"').encode()])
    if asked.method == "GET":
        return Script(headers=JSON, parts=[b"{}"])
    return Script(headers=JSON, parts=[completion_bytes(asked.json())])


def prepared(home: Path) -> dict[str, str]:
    """A home with a signed policy in force; the settings that every process of it takes."""
    bundle = policy()
    policies = home / "artifacts" / "policies"
    policies.mkdir(parents=True)
    EMBEDDER.save(policies / bundle.embedder_path)
    engine = open_store(f"sqlite:///{home / 'loop.db'}")
    document = signed(bundle, installation_secret(home))
    with engine.begin() as connection:
        activate_policy(connection, sha256=bundle.sha256, bundle=document, checkpoint_id=None)
    engine.dispose()
    return {"LOOP_HOME": str(home), "LOOP_FRONTIER_API_KEY": "none"}


def send(gateway: Running) -> dict[str, dict[str, str]]:
    """Every request once; headers of the answers by the request's own id."""

    def one(number: int) -> tuple[str, dict[str, str]]:
        name = f"r{number:04d}"
        template = TEMPLATES[number % len(TEMPLATES)]
        body = {"model": "big", "messages": messages(number, template), "stream": number % 7 == 0}
        reply = gateway.post(json=body, headers={"x-loop-prompt-id": name})
        assert reply.status_code == 200, reply.text
        return name, {k.lower(): v for k, v in reply.headers.items()}

    with ThreadPoolExecutor(16) as pool:
        return dict(pool.map(one, range(REQUESTS)))


def test_the_store_holds_what_the_router_decided(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    settings = prepared(home)
    big, small = Upstream(frontier), Upstream(vllm)
    settings |= {
        "LOOP_FRONTIER_URLS": big.url,
        "LOOP_VLLM_URL": small.url.removesuffix("/v1"),
        "LOOP_STUDENT_PATIENCE_MS": "20000",
    }
    gateway = Running(**settings)
    try:
        heads = send(gateway)
    finally:
        gateway.process.terminate()
        gateway.process.wait(60)
        big.stop()
        small.stop()
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "ship", "--once"]
    subprocess.run(command, env=os.environ | settings, check=True, timeout=120)
    engine = open_store(f"sqlite:///{home / 'loop.db'}")
    rows = {row["prompt_id"]: row for row in records(read_traces(engine))}
    engine.dispose()

    decides, bundle = router(), policy()
    wanted = set(heads)
    arms = {"student": 0, "escalated": 0, "frontier": 0}
    slow = 0
    for name, head in heads.items():
        number = int(name[1:])
        asked = messages(number, TEMPLATES[number % len(TEMPLATES)])
        decision = decides.decide(asked, name)
        served = _checked(rows[name], decision, number)
        went = "student" if served else "escalated" if decision.adapter else "frontier"
        arms[went] += 1
        assert head["x-loop-route"] == went
        assert head["x-loop-policy"].startswith(bundle.sha256[:12])
        if GIVEN_UP in (rows[name]["route"]["settled"] or ""):
            # On a busy machine; the late answer is kept where the coin drew the request.
            slow += 1
            rows.pop(f"{name}~{decision.adapter}", None)
        elif decision.adapter and not served:
            wanted.add(f"{name}~{decision.adapter}")
        elif decision.shadow and served:
            wanted.add(f"{name}~frontier")
        elif decision.shadow:
            wanted.add(f"{name}~{bundle.student['adapter']}")
    assert set(rows) == wanted
    assert min(arms.values()) > 200
    assert slow < REQUESTS / 20
    for name in wanted - set(heads):
        request, _, who = name.partition("~")
        text = words(int(request[1:]))
        assert rows[name]["route"]["shadow_of"] == request
        expected = frontier_says(text) if who == "frontier" else student_says(who, text)[0]
        assert rows[name]["output"] == expected


def _checked(row: dict[str, Any], decision: Decision, number: int) -> bool:
    """Hold the row of what went out against the router; whether the student's answer did."""
    route, text = row["route"], words(number)
    assert (route["arm"], route["group_id"]) == (decision.arm, decision.group_id)
    assert (route["shadow"], route["propensity"]) == (decision.shadow, decision.propensity)
    assert route["adapter"] == decision.adapter
    if decision.adapter is None:
        assert (row["producer"], row["output"]) == ("frontier", frontier_says(text))
        return False
    if GIVEN_UP in (route["settled"] or ""):
        assert (row["producer"], row["output"]) == ("frontier", frontier_says(text))
        return False
    said, logprobs = student_says(decision.adapter, text)
    own = Answer(said, logprobs, 20, 3, "stop", 1.0)
    settled = router().settle(decision, said, logprobs, finish_reason="stop", tokens_out=3)
    assert route["action"] == settled.action
    assert route["score"] == pytest.approx(settled.score)
    served = settled.action == "serve"
    assert row["producer"] == ("student" if served else "frontier")
    assert row["output"] == (said if served else frontier_says(text))
    if served:
        assert row["logprobs"]["min"] == pytest.approx(own.logprob_min)
        assert row["logprobs"]["sum"] == pytest.approx(own.logprob_sum)
    return served
