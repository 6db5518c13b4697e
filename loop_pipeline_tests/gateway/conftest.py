"""A scripted upstream, a worker before it, and one with a policy and a student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_pipeline_tests.gateway.live import Live, live
from loop_pipeline_tests.gateway.small_policy import completion_bytes, frontier_says, routed_live
from loop_pipeline_tests.raw_server import RawServer, reply
from loop_pipeline_tests.upstream import (
    EVENT_STREAM,
    JSON,
    Asked,
    Script,
    Upstream,
    completion,
    events,
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.stop()


@pytest.fixture
def gateway(tmp_path: Path, upstream: Upstream) -> Iterator[Live]:
    with live(tmp_path / "home", upstream.url) as running:
        yield running


def _frontier(asked: Asked) -> Script:
    body = asked.json()
    text = frontier_says(body["messages"][-1]["content"])
    if body.get("stream"):
        return Script(headers=EVENT_STREAM, parts=events(text))
    return Script(headers=JSON, parts=[completion(text, model=body["model"])])


@pytest.fixture
def student() -> Iterator[RawServer]:
    made = RawServer(lambda connection, body: connection.sendall(reply(completion_bytes(body))))
    yield made
    made.stop()


@pytest.fixture
def frontier() -> Iterator[Upstream]:
    """Answers as ``small_policy.frontier_says``."""
    made = Upstream(_frontier)
    yield made
    made.stop()


@pytest.fixture
def routed(
    tmp_path: Path, student: RawServer, frontier: Upstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Live]:
    # A busy machine makes a student slow, and that is not what is asked here.
    monkeypatch.setattr("loop_pipeline.gateway.asking.patience.LEAST_S", 60.0)
    with routed_live(tmp_path / "home", frontier.url, student.url) as running:
        yield running
