"""How much a key may ask for."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from loop_pipeline.costs.prices import LIST_PRICES
from loop_pipeline.gateway.access import limits as module
from loop_pipeline.gateway.access.limits import Limits, OverLimit, Unpriced, usd_at_most
from loop_pipeline.gateway.http import counters
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
    # A million tokens are a long request: all of them are dearer.
    assert usd_at_most(LIST_PRICES, "gpt-5.5", 3_000_000, 1_000_000) == pytest.approx(10 + 45)
    assert usd_at_most(LIST_PRICES, "of an unknown price", 3_000_000, None) is None


def test_a_limit_in_usd_refuses_what_nobody_has_a_price_for() -> None:
    with pytest.raises(Unpriced, match="name its price in LOOP_PRICES_FILE"):
        _limits(usd_per_day=1.0).begin(None)
    assert _limits(per_minute=1).begin(None) == 0.0


def test_an_unpriced_model_is_answered_counted_and_refused_to_a_key_with_a_limit_in_usd(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, key("a", "call"), key("b", "call", limits={"usd_per_day": 5}))
    asked, before = ASKED | {"model": "own-9"}, _unpriced()
    own = Script(headers=JSON, parts=[completion(model="own-9")])
    upstream.then(own, own, own)
    with live(tmp_path, upstream.url) as gateway:
        for _ in range(3):
            assert gateway.post(headers=bearer("a"), json=asked).status_code == 200
        said = gateway.post(headers=bearer("b"), json=asked)
        assert gateway.post(headers=bearer("b"), json=ASKED).status_code == 200
    assert (said.status_code, said.json()["error"]["code"]) == (403, "loop_unpriced_model")
    assert _unpriced() - before == 3
    assert [r.getMessage() for r in caplog.records if "own-9" in r.getMessage()] == [
        "loop: answers of 'own-9' are unpriced: name its price in LOOP_PRICES_FILE"
    ]
    files = [p for p in (tmp_path / "spool").iterdir() if p.suffix in (".jsonl", ".open")]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert [row.get("cost_usd") for row in rows if row["model"] == "own-9"] == [None] * 3
    assert all(row["cost_usd"] > 0 for row in rows if row["model"] == "gpt-5.5")


def _unpriced() -> float:
    return counters.unpriced._value.get()


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
