"""The seldom ways: a proxy before the frontier, bodies in pieces, HEAD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_pipeline.gateway.frontier import by_aiohttp, forward
from loop_pipeline_tests.gateway.live import ASKED, Live, live
from loop_pipeline_tests.shared import free_port
from loop_pipeline_tests.upstream import JSON, Script, Upstream, failure, stream

FAR = "http://vendor.invalid/v1"


@pytest.fixture
def behind(tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """A gateway whose frontier is reached through a proxy only."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{upstream.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _forget()
    with live(tmp_path / "home", FAR) as running:
        yield running
    _forget()


def _forget() -> None:
    by_aiohttp._proxy.cache_clear()
    forward._direct.cache_clear()


def test_the_frontier_is_asked_through_the_proxy_of_the_environment(
    behind: Live, upstream: Upstream
) -> None:
    assert behind.post().status_code == 200
    upstream.then(stream("deli", "very"))
    said = behind.post(json=ASKED | {"stream": True})
    assert said.text.endswith("data: [DONE]\n\n")
    assert behind.row(said.headers["x-loop-prompt-id"])["output"] == "delivery"
    assert {asked.path for asked in upstream.asked} == {f"{FAR}/chat/completions"}
    sent = upstream.asked[0].headers
    assert sent["host"] == "vendor.invalid"
    assert sent["authorization"] == "Bearer sk-vendor-planted"


def test_a_proxy_does_not_change_what_happens_when_something_is_wrong(
    behind: Live, upstream: Upstream
) -> None:
    assert behind.post().status_code == 200
    upstream.then(Script(silent=True, end="reset"))
    said = behind.post()
    assert behind.row(said.headers["x-loop-prompt-id"])["route"]["attempts"] == 2
    upstream.then(failure(429))
    assert behind.post().json()["error"]["message"] == "upstream says 429"
    upstream.then(Script(headers=JSON, parts=[b"{", b"}"], end="cut"))
    assert behind.post().json()["error"]["code"] == "loop_frontier_broken"


def test_a_body_in_pieces_is_sent_once(tmp_path: Path, gateway: Live, upstream: Upstream) -> None:
    pieces = [b"a" * 70_000, b"b" * 70_000]
    assert gateway.post("/v1/files", data=iter(pieces)).status_code == 200
    assert upstream.asked[0].body == b"".join(pieces)
    with live(tmp_path / "second", f"http://127.0.0.1:{free_port()}/v1", upstream.url) as two:
        assert two.post("/v1/files", data=iter(pieces)).status_code == 502
    assert len(upstream.asked) == 1
