"""How much a key may ask for."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from loop_pipeline.gateway.access import limits as module
from loop_pipeline.gateway.access.limits import Limits, OverLimit, usd_at_most
from loop_pipeline_tests.gateway.access.test_access import bearer, key, put
from loop_pipeline_tests.gateway.live import ASKED, live, wait_for
from loop_pipeline_tests.upstream import JSON, Script, Upstream, completion


def _limits(**fields: float) -> Limits:
    made = Limits()
    made.set(fields)
    return made


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 86_400.0 * 20_000 + 3600
        monkeypatch.setattr(module.time, "time", lambda: self.now)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_requests_at_once_are_counted_out_again() -> None:
    limits = _limits(parallel=2)
    first, _ = limits.begin(0), limits.begin(0)
    with pytest.raises(OverLimit, match="2 requests at once"):
        limits.begin(0)
    limits.end(first, 0)
    limits.begin(0)


def test_a_minute_is_any_sixty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = _limits(per_minute=2)
    limits.begin(0)
    clock.now += 50
    limits.begin(0)
    with pytest.raises(OverLimit) as over:
        limits.begin(0)
    assert over.value.retry_after == 10
    clock.now += 10
    limits.begin(0)
    with pytest.raises(OverLimit) as over:
        limits.begin(0)
    assert over.value.retry_after == 50


def test_usd_are_reserved_first_and_settled_after(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limits = _limits(usd_per_day=1.0)
    reserved = limits.begin(0.9)
    with pytest.raises(OverLimit) as over:
        limits.begin(0.2)
    assert over.value.retry_after == 82_800, "until midnight, UTC"
    limits.end(reserved, 0.1)
    limits.begin(0.2)
    clock.now += 86_400
    limits.begin(1.0)


def test_what_a_request_may_cost_is_not_too_little() -> None:
    assert usd_at_most("gpt-5.5", 3_000_000, 1_000_000) == pytest.approx(5 + 30)
    assert usd_at_most("of an unknown price", 3_000_000, None) == 0


def test_over_a_limit_is_a_429_that_says_when(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("a", "call", limits={"per_minute": 1}), key("b", "call"))
    with live(tmp_path, upstream.url) as gateway:
        assert gateway.post(headers=bearer("a")).status_code == 200
        said = gateway.post(headers=bearer("a"))
        assert (said.status_code, said.json()["error"]["code"]) == (429, "loop_limit")
        assert 0 < int(said.headers["retry-after"]) <= 60
        assert gateway.post(headers=bearer("b")).status_code == 200
    assert len(upstream.asked) == 2


def test_money_is_that_of_the_answer(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("a", "call", limits={"usd_per_day": 0.06}))
    dear = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    with live(tmp_path, upstream.url) as gateway:
        assert [gateway.post(headers=bearer("a")).status_code for _ in range(9)] == [200] * 9
        upstream.then(Script(headers=JSON, parts=[completion(usage=dear)]))
        assert gateway.post(headers=bearer("a")).status_code == 200
        assert gateway.post(headers=bearer("a")).status_code == 429


def test_a_place_is_free_again_when_the_client_leaves(tmp_path: Path, upstream: Upstream) -> None:
    put(tmp_path, key("a", "call", limits={"parallel": 1}))
    upstream.then(Script(first_after=1))
    with live(tmp_path, upstream.url) as gateway:
        first = threading.Thread(target=lambda: gateway.post(headers=bearer("a"), json=ASKED))
        first.start()
        wait_for(lambda: upstream.answering == 1)
        assert gateway.post(headers=bearer("a")).status_code == 429
        first.join()
        assert gateway.post(headers=bearer("a")).status_code == 200
