"""The list of models."""

from __future__ import annotations

from loop_pipeline_tests.gateway.live import Live
from loop_pipeline_tests.upstream import Upstream, failure


def _ids(gateway: Live) -> list[str]:
    return [one["id"] for one in gateway.get("/v1/models").json()["data"]]


def test_auto_is_listed_after_the_frontiers_models(gateway: Live) -> None:
    assert _ids(gateway) == ["gpt-5.5", "auto"]
    assert gateway.get("/v1/models/auto").json()["id"] == "auto"


def test_the_last_list_stays_while_the_frontier_is_down(gateway: Live, upstream: Upstream) -> None:
    upstream.then(failure(503))
    assert gateway.get("/v1/models").status_code == 503
    assert _ids(gateway) == ["gpt-5.5", "auto"]
    upstream.then(failure(503))
    assert _ids(gateway) == ["gpt-5.5", "auto"]
    upstream.stop()
    assert _ids(gateway) == ["gpt-5.5", "auto"]
