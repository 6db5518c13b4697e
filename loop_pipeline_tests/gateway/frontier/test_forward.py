"""Each way in which a frontier can be down, as `gateway.md` section 6 lists them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loop_pipeline_tests.gateway.live import ASKED, Live, live
from loop_pipeline_tests.shared import free_port
from loop_pipeline_tests.upstream import JSON, Script, Upstream, answer, failure

NOBODY = "http://127.0.0.1:{}/v1"


@pytest.fixture
def second() -> Iterator[Upstream]:
    running = Upstream()
    yield running
    running.stop()


@pytest.fixture
def two(tmp_path: Path, upstream: Upstream, second: Upstream) -> Iterator[Live]:
    with live(tmp_path / "home", upstream.url, second.url) as running:
        yield running


def test_a_kept_connection_that_died_is_retried_on_a_fresh_one(
    gateway: Live, upstream: Upstream
) -> None:
    assert gateway.post().status_code == 200
    upstream.then(Script(silent=True, end="reset"))
    said = gateway.post()
    assert said.status_code == 200
    assert gateway.row(said.headers["x-loop-prompt-id"])["route"]["attempts"] == 2
    first, dead, fresh = (asked.connection for asked in upstream.asked)
    assert first == dead != fresh


def test_a_server_that_restarts_on_its_port_is_not_noticed_by_the_client(
    tmp_path: Path,
) -> None:
    before = Upstream()
    with live(tmp_path / "home", before.url) as gateway:
        assert [gateway.post().status_code for _ in range(3)] == [200] * 3
        before.stop()
        after = Upstream(port=before.port)
        assert [gateway.post().status_code for _ in range(3)] == [200] * 3
        after.stop()


def test_what_is_refused_goes_to_the_next_url(tmp_path: Path, second: Upstream) -> None:
    with live(tmp_path / "home", NOBODY.format(free_port()), second.url) as gateway:
        said = gateway.post()
    assert said.status_code == 200
    assert len(second.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_429_and_5xx_go_to_the_next_url(
    two: Live, upstream: Upstream, second: Upstream, status: int
) -> None:
    upstream.then(failure(status))
    assert two.post().json()["choices"][0]["message"]["content"] == "delivery"
    assert (len(upstream.asked), len(second.asked)) == (1, 1)
    assert second.asked[0].body == upstream.asked[0].body


def test_without_another_url_the_refusal_passes_unchanged(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(failure(429, **{"retry-after": "7", "x-ratelimit-remaining-requests": "0"}))
    said = gateway.post()
    assert said.status_code == 429
    assert said.json()["error"]["message"] == "upstream says 429"
    assert said.headers["retry-after"] == "7"
    assert said.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(upstream.asked) == 1, "clients have retries of their own"
    assert gateway.rows() == []


def test_if_every_url_refuses_the_last_refusal_passes(
    two: Live, upstream: Upstream, second: Upstream
) -> None:
    upstream.then(failure(500))
    second.then(failure(429))
    assert two.post().status_code == 429


def test_a_refusal_is_kept_where_the_next_url_is_not_there(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.then(failure(429, **{"retry-after": "3"}))
    with live(tmp_path / "home", upstream.url, NOBODY.format(free_port())) as gateway:
        said = gateway.post()
    assert (said.status_code, said.headers["retry-after"]) == (429, "3")
    assert said.json()["error"]["message"] == "upstream says 429"


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_the_clients_own_faults_are_asked_once_and_pass_unchanged(
    two: Live, upstream: Upstream, second: Upstream, status: int
) -> None:
    upstream.then(failure(status))
    assert two.post().status_code == status
    assert second.asked == []


def test_a_frontier_that_is_down_is_a_502_in_the_format_of_the_client(tmp_path: Path) -> None:
    with live(tmp_path / "home", NOBODY.format(free_port())) as gateway:
        chat = gateway.post()
        messages = gateway.post("/v1/messages", json=ASKED | {"max_tokens": 9})
        other = gateway.post("/v1/embeddings", json={"input": "x"})
    assert (chat.status_code, messages.status_code, other.status_code) == (502, 502, 502)
    assert chat.json()["error"]["code"] == "loop_frontier_unreachable"
    assert messages.json()["type"] == "error"
    assert "loop_frontier_unreachable" in messages.text


def test_a_frontier_that_hangs_is_a_504_within_the_total_time(
    tmp_path: Path, upstream: Upstream
) -> None:
    upstream.then(Script(silent=True, end="hang"))
    with live(tmp_path / "home", upstream.url, frontier_timeout_s=0.3) as gateway:
        said = gateway.post()
    assert said.status_code == 504
    assert said.json()["error"]["code"] == "loop_frontier_timeout"


def test_time_is_counted_for_all_urls_together_and_for_the_whole_answer(
    tmp_path: Path, upstream: Upstream
) -> None:
    drip = Script(headers=JSON, parts=[b"{", b'"a"', b":1}"], pause=0.2)
    upstream.then(drip)
    with live(tmp_path / "home", upstream.url, frontier_timeout_s=0.3) as gateway:
        said = gateway.post()
    assert said.status_code == 504


def test_an_answer_that_is_cut_is_a_502_and_no_trace(gateway: Live, upstream: Upstream) -> None:
    whole = answer().parts[0]
    upstream.then(Script(headers=JSON, parts=[whole[:50], whole[50:90]], end="cut"))
    said = gateway.post()
    assert said.status_code == 502
    assert said.json()["error"]["code"] == "loop_frontier_broken"
    assert gateway.rows() == []


def test_what_is_no_http_counts_as_not_there(two: Live, upstream: Upstream) -> None:
    upstream.then(*[Script(status=-1, headers={}, parts=[b"nonsense"]) for _ in range(2)])
    assert two.post().status_code == 200


def test_proxies_and_secrets_of_the_machine_do_not_reach_the_vendor(
    gateway: Live, upstream: Upstream
) -> None:
    gateway.post(
        headers={
            "authorization": "Bearer lk_mine",
            "x-api-key": "lk_mine",
            "cookie": "a=b",
            "x-loop-task": "intent",
            "x-loop-user": "ada",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "x-forwarded-for": "10.0.0.1",
            "openai-organization": "org-1",
            "x-stainless-lang": "python",
        }
    )
    sent = upstream.asked[0].headers
    assert sent["authorization"] == "Bearer sk-vendor-planted"
    assert "lk_mine" not in str(sent)
    assert not {"cookie", "traceparent", "x-forwarded-for", "x-api-key"} & set(sent)
    assert not [name for name in sent if name.startswith("x-loop")]
    assert sent["openai-organization"] == "org-1"
    assert sent["x-stainless-lang"] == "python"
    assert sent["host"] == f"127.0.0.1:{upstream.port}"
