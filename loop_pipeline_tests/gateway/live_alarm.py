"""A whole live run: traffic, a frontier that begins to disagree, the alarm, the hold, the release.

Real processes (the gateway with its worker, `loop ship`), a real store, and the look that the
sensor takes. Frontier and student are local servers whose answers are known beforehand.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from loop_pipeline.hashing import digest
from loop_pipeline.installation_secret import installation_secret
from loop_pipeline.monitoring.risk_watch import look
from loop_pipeline.rollout.group_holds import release
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.store.database import open_store, read
from loop_pipeline.store.holds import held_groups
from loop_pipeline.store.policies import activate_policy
from loop_pipeline.store.tables import AlertRow, WatchedAnswerRow
from loop_pipeline.store.watch.alerts import open_alerts
from loop_pipeline_tests.gateway.live import wait_for
from loop_pipeline_tests.gateway.small_policy import (
    EMBEDDER,
    LABELS,
    THRESHOLD,
    frontier_says,
    messages,
    policy,
)
from loop_pipeline_tests.gateway.test_parent import Running
from loop_pipeline_tests.upstream import JSON, Asked, Script, Upstream, answer, completion

COIN = 0.1
# In the group that drifts, from the moment on at which it begins to.
DRIFT = 0.2
GOOD, MOST, AFTER = 400, 8_000, 400
BATCH = 40
GROUP = "g-certified"


@dataclass
class Found:
    """What the run came to. Requests and answers are those of the group that drifts."""

    served_before: int = 0
    requests_until_held: int = 0
    checked_until_held: int = 0
    seconds_until_held: float = 0.0
    seconds_until_obeyed: float = 0.0
    held: str = ""
    alert: str = ""
    asked_after: int = 0
    at_frontier_after: int = 0
    served_after: int = 0
    shadowed_after: int = 0
    served_in_the_other_group: int = 0
    served_after_release: int = 0
    open_alerts_after_release: int = -1


def two_groups() -> PolicyBundle:
    """Both groups of the small policy are the student's, and a tenth is shadowed."""
    first, second = policy().groups
    served = {"arm": "student", "threshold": THRESHOLD, "reason": "certified"}
    groups = [first, second.model_copy(update=served)]
    return policy(exploration_rate=COIN, groups=groups)


class Drifting:
    """The frontier: what it said so far, until a fifth of one group's answers is another."""

    def __init__(self) -> None:
        self.drifts = False

    def __call__(self, asked: Asked) -> Script:
        system, user = (m["content"] for m in asked.json()["messages"])
        said = frontier_says(user)
        other = int(digest("drift", user)[:6], 16) / 16**6 < DRIFT
        if self.drifts and system == messages(0)[0]["content"] and other:
            said = LABELS[(LABELS.index(said) + 1) % len(LABELS)]
        return answer(said, model="big-2026-09-01")


def student(asked: Asked) -> Script:
    """A student that says what the frontier said so far, and is sure of it."""
    if asked.method == "GET":
        held = {"data": [{"id": policy().student["adapter"], "parent": "b"}]}
        body = str(held).replace("'", '"') if asked.path.endswith("/models") else "{}"
        return Script(headers=JSON, parts=[body.encode()])
    said = frontier_says(asked.json()["messages"][-1]["content"])
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "logprobs": {"content": [{"logprob": -0.01}] * 3},
        "finish_reason": "stop",
    }
    return Script(headers=JSON, parts=[completion(said, choices=[choice])])


@contextmanager
def _processes(home: Path, frontier: Drifting) -> Iterator[tuple[Running, Engine]]:
    bundle = two_groups()
    policies = home / "artifacts" / "policies"
    policies.mkdir(parents=True)
    EMBEDDER.save(policies / bundle.embedder_path)
    engine = open_store(f"sqlite:///{home.absolute() / 'loop.db'}")
    document = signed(bundle, installation_secret(home))
    with engine.begin() as connection:
        activate_policy(connection, sha256=bundle.sha256, bundle=document, checkpoint_id="a" * 64)
    big, small = Upstream(frontier), Upstream(student)
    settings = {
        "LOOP_HOME": str(home),
        "LOOP_FRONTIER_API_KEY": "none",
        "LOOP_FRONTIER_URLS": big.url,
        "LOOP_VLLM_URL": small.url.removesuffix("/v1"),
        "LOOP_STUDENT_PATIENCE_MS": "20000",
    }
    gateway = Running(**settings)
    command = [sys.executable, "-m", "loop_pipeline.cli.main", "ship"]
    shipper = subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL)
    try:
        ready = f"{gateway.url}/health/ready"
        wait_for(lambda: _json(ready).get("policy"), 60)
        yield gateway, engine
    finally:
        shipper.terminate()
        shipper.wait(60)
        if gateway.process.poll() is None:
            gateway.stop()
        big.stop()
        small.stop()
        engine.dispose()


def _json(url: str) -> dict[str, Any]:
    import requests

    return requests.get(url, timeout=5).json()


class Client:
    """Asks each group in turn, a request that nobody asked before."""

    def __init__(self, gateway: Running) -> None:
        self._gateway, self._numbers = gateway, count()
        self._pool = ThreadPoolExecutor(8)

    def ask(self, requests: int) -> Counter[tuple[str, str]]:
        """How often who answered, by group."""
        return Counter(self._pool.map(self._one, [next(self._numbers) for _ in range(requests)]))

    def reason(self) -> str:
        """Why a request of the group was routed as it was."""
        body = {"model": "big", "messages": messages(next(self._numbers))}
        return self._gateway.post(json=body).headers["x-loop-reason"]

    def _one(self, number: int) -> tuple[str, str]:
        group = ("certified", "refused")[number % 2]
        body = {"model": "big", "messages": messages(number, group)}
        reply = self._gateway.post(json=body)
        assert reply.status_code == 200, reply.text
        return f"g-{group}", reply.headers["x-loop-route"]


def live_alarm(home: Path) -> Found:
    """Run it.

    Args:
        home: an empty folder.
    """
    frontier, found = Drifting(), Found()
    with _processes(home, frontier) as (gateway, engine):
        client = Client(gateway)
        found.served_before = client.ask(GOOD)[GROUP, "student"]
        look(engine, blind_hours=24)
        frontier.drifts = True
        _until_held(client, engine, found)
        _while_held(client, engine, found)
        frontier.drifts = False
        release(engine, GROUP, actor="live run", reason="the frontier answers as before")
        wait_for(lambda: "held" not in client.reason(), 30)
        found.served_after_release = client.ask(BATCH)[GROUP, "student"]
        found.open_alerts_after_release = len(open_alerts(engine))
    return found


def _until_held(client: Client, engine: Engine, found: Found) -> None:
    began = time.monotonic()
    while not held_groups(engine):
        assert found.requests_until_held < MOST, "nobody noticed"
        asked = client.ask(BATCH)
        found.requests_until_held += sum(n for (group, _), n in asked.items() if group == GROUP)
        look(engine, blind_hours=24)
    found.seconds_until_held = time.monotonic() - began
    [hold] = held_groups(engine)
    found.held = hold["group_id"]
    [alert] = read(engine, AlertRow).to_dict("records")
    found.alert = alert["text"]
    found.checked_until_held = _checked(engine)
    began = time.monotonic()
    wait_for(lambda: "is held back until it is released" in client.reason(), 30)
    found.seconds_until_obeyed = time.monotonic() - began


def _checked(engine: Engine) -> int:
    rows = read(engine, WatchedAnswerRow, group_id=GROUP)
    return int(rows["position"].notna().sum())


def _while_held(client: Client, engine: Engine, found: Found) -> None:
    asked = client.ask(AFTER)
    found.asked_after = sum(n for (group, _), n in asked.items() if group == GROUP)
    found.at_frontier_after = asked[GROUP, "frontier"]
    found.served_after = asked[GROUP, "student"]
    found.served_in_the_other_group = asked["g-refused", "student"]
    wait_for(lambda: _shadowed_since(engine) > 0, 30)
    found.shadowed_after = _shadowed_since(engine)


def _shadowed_since(engine: Engine) -> int:
    """Student's answers beside the frontier's, in the held group."""
    from sqlalchemy import func, select

    from loop_pipeline.store.shadow_answers import SHADOW_OF
    from loop_pipeline.store.tables import TraceRow

    group = TraceRow.route["group_id"].as_string() == GROUP
    beside = (TraceRow.producer == "student", SHADOW_OF.is_not(None), group)
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(TraceRow).where(*beside)) or 0
