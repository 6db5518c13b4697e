"""One request and its answer, in one piece: bytes, ids, headers, traces, and what is refused."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path

import pytest

from loop_pipeline.gateway.http.asgi import MOST_BODY
from loop_pipeline_tests.gateway.live import ASKED, Live, live, wait_for
from loop_pipeline_tests.upstream import JSON, Script, Upstream, answer, completion


def test_bytes_reach_the_frontier_as_they_came(gateway: Live, upstream: Upstream) -> None:
    body = json.dumps(ASKED | {"invented_later": [1, {"a": 1e400}]}, indent=3).encode()
    body = body.replace(b"Infinity", b"12345678901234567890123")
    said = gateway.post(data=body, headers={"content-type": "application/json"})
    assert said.status_code == 200
    assert upstream.asked[0].body == body


def test_only_the_id_of_an_answer_is_changed(gateway: Live, upstream: Upstream) -> None:
    sent = completion(invented_later={"id": "chatcmpl-upstream1", "x": [1.50]})
    upstream.then(Script(headers=JSON, parts=[sent]))
    said = gateway.post()
    new = f'"chatcmpl-{said.headers["x-loop-prompt-id"]}"'.encode()
    assert said.content == sent.replace(b'"chatcmpl-upstream1"', new, 1)


def test_what_openai_stores_keeps_its_id(gateway: Live) -> None:
    said = gateway.post(json=ASKED | {"store": True})
    assert said.json()["id"] == "chatcmpl-upstream1"


def test_a_trace_says_who_asked_what_and_who_answered(gateway: Live) -> None:
    said = gateway.post(
        json=ASKED | {"temperature": 0.5, "metadata": {"team": "desk"}, "user": "ada.lovelace"},
        headers={
            "x-loop-task": "intent",
            "x-loop-conversation": "c-1",
            "x-stainless-retry-count": "1",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        },
    )
    row = gateway.row(said.headers["x-loop-prompt-id"])
    assert row["messages"] == ASKED["messages"]
    assert (row["output"], row["finish_reason"], row["producer"]) == (
        "delivery",
        "stop",
        "frontier",
    )
    assert (row["model"], row["served_model"]) == ("gpt-5.5", "gpt-5.5-2026-10-01")
    assert (row["tokens_in"], row["tokens_out"]) == (21, 3)
    assert (row["task"], row["conversation_id"], row["app"]) == ("intent", "c-1", "default")
    assert (row["retries"], row["response_id"]) == (1, "chatcmpl-upstream1")
    assert row["tags"] == {"team": "desk"}
    assert row["parameters"]["temperature"] == 0.5
    assert row["route"]["trace_id"] == "a" * 32
    assert row["route"]["rung"] == "frontier"
    assert "lovelace" not in json.dumps(row), "people are known by a keyed digest only"
    assert len(row["user_hash"]) == 16


def test_headers_tell_the_client_what_happened(gateway: Live) -> None:
    headers = gateway.post().headers
    assert headers["x-loop-route"] == "frontier"
    assert headers["x-loop-reason"] == "there is no policy in force"
    assert headers["x-loop-model"] == "gpt-5.5"
    assert float(headers["x-loop-overhead-ms"]) >= 0


def test_an_id_of_the_client_is_taken_if_it_can_stand_in_a_file_and_a_url(gateway: Live) -> None:
    given = gateway.post(headers={"x-loop-prompt-id": "order-7:a.b"})
    assert given.headers["x-loop-prompt-id"] == "order-7:a.b"
    assert given.json()["id"] == "chatcmpl-order-7:a.b"
    odd = gateway.post(headers={"x-loop-prompt-id": 'a"b/../c'})
    assert len(odd.headers["x-loop-prompt-id"]) == 32


def test_one_conversation_has_one_digest_whatever_comes_after_its_beginning(gateway: Live) -> None:
    longer = ASKED["messages"] + [{"role": "assistant", "content": "which?"}]
    first = gateway.post()
    second = gateway.post(json=ASKED | {"messages": longer})
    other = gateway.post(json=ASKED | {"user": "ada"})
    found = [
        gateway.row(r.headers["x-loop-prompt-id"])["conversation_id"]
        for r in (first, second, other)
    ]
    assert found[0] == found[1] != found[2]


def test_what_is_not_to_be_captured_is_not(gateway: Live) -> None:
    said = gateway.post(headers={"x-loop-capture": "off"})
    assert said.json()["id"] == "chatcmpl-upstream1"
    assert gateway.rows() == []


def test_auto_is_the_frontiers_model_and_nothing_else_changes(
    gateway: Live, upstream: Upstream
) -> None:
    text = {"role": "user", "content": 'say "model":"auto" twice'}
    said = gateway.post(data=json.dumps({"model": "auto", "messages": [text], "n": 1}))
    assert said.status_code == 200
    assert upstream.asked[0].json() == {"model": "gpt-5.5", "messages": [text], "n": 1}
    assert gateway.row(said.headers["x-loop-prompt-id"])["model"] == "gpt-5.5"


def test_auto_without_a_model_says_what_to_set(tmp_path: Path, upstream: Upstream) -> None:
    with live(tmp_path / "home", upstream.url, frontier_model="") as gateway:
        said = gateway.post(json=ASKED | {"model": "auto"})
    assert said.status_code == 400
    assert said.json()["error"]["param"] == "model"
    assert "LOOP_FRONTIER_MODEL" in said.text


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"null", b"[" * 99999])
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses", "completions"])
def test_what_is_no_json_object_is_a_400_of_ours(gateway: Live, body: bytes, path: str) -> None:
    said = gateway.post(f"/v1/{path}", data=body)
    assert said.status_code == 400
    assert "JSON" in said.json()["error"]["message"]


def test_other_json_is_the_frontiers_to_judge(gateway: Live, upstream: Upstream) -> None:
    asked = {"model": "gpt-5.5", "messages": "of a kind that is invented later"}
    said = gateway.post(json=asked)
    assert said.status_code == 200
    assert upstream.asked[0].json() == asked
    assert gateway.rows() == []


def test_a_compressed_request_passes_unread(gateway: Live, upstream: Upstream) -> None:
    body = gzip.compress(json.dumps(ASKED).encode())
    upstream.then(answer())
    said = gateway.post(data=body, headers={"content-encoding": "gzip"})
    assert said.status_code == 200
    assert upstream.asked[0].body == body
    assert upstream.asked[0].headers["content-encoding"] == "gzip"


def test_a_compressed_answer_is_read_all_the_same(gateway: Live, upstream: Upstream) -> None:
    packed = gzip.compress(completion())
    upstream.then(Script(headers=JSON | {"content-encoding": "gzip"}, parts=[packed]))
    said = gateway.post()
    assert said.json()["choices"][0]["message"]["content"] == "delivery"
    assert gateway.row(said.headers["x-loop-prompt-id"])["output"] == "delivery"
    assert upstream.asked[0].headers["accept-encoding"] == "identity"


def test_an_answer_that_is_no_json_passes_and_is_broken_in_the_trace(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers={"content-type": "text/html"}, parts=[b"<html>"]))
    said = gateway.post()
    assert (said.status_code, said.content) == (200, b"<html>")
    assert gateway.row(said.headers["x-loop-prompt-id"])["finish_reason"] == "broken"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_32_mib_is_a_413(gateway: Live, upstream: Upstream, declared: bool) -> None:
    body = b" " * (MOST_BODY + 1)
    said = gateway.post(data=body if declared else iter([body[:20_000_000], body[20_000_000:]]))
    assert said.status_code == 413
    assert said.json()["error"]["code"] == "loop_body_too_long"
    assert upstream.asked == []


def test_a_client_that_leaves_ends_the_frontiers_work(gateway: Live, upstream: Upstream) -> None:
    upstream.then(Script(first_after=30))
    body = json.dumps(ASKED).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        client.sendall(head.encode() + b"x-loop-prompt-id: gone\r\n\r\n" + body)
        wait_for(lambda: upstream.answering == 1)
    wait_for(lambda: upstream.answering == 0, 5)
    wait_for(lambda: gateway.rows())
    row = gateway.row("gone")
    assert (row["finish_reason"], row["output"]) == ("cancelled", "")


def test_five_hundred_clients_that_leave_at_once_leave_nothing_behind(
    gateway: Live, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.usual = lambda _: Script(first_after=60)
    body = json.dumps(ASKED).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(500)]
    for client in clients:
        client.sendall(head.encode() + body)
    wait_for(lambda: upstream.answering == 500)
    for client in clients:
        client.close()
    wait_for(lambda: upstream.answering == 0, 5)
    wait_for(lambda: len(gateway.rows()) == 500)
    assert len(upstream.asked) == 500, "nobody is asked again for somebody who left"
    assert "ClientGone" not in caplog.text, "it is no fault"
    assert "loop_requests_in_flight 0.0" in gateway.get("/metrics").text


def test_capture_that_is_required_refuses_and_otherwise_lets_pass(
    tmp_path: Path, upstream: Upstream
) -> None:
    for number, (capture, status) in enumerate([("on", 200), ("required", 503)]):
        home = tmp_path / f"{number}"
        home.mkdir()
        (home / "spool").write_text("a file where a folder should be")
        with live(home, upstream.url, capture=capture) as gateway:
            assert gateway.post().status_code == status
            assert gateway.get("/health/ready").status_code == 503
            assert gateway.get("/health/live").status_code == 200
            metrics = gateway.get("/metrics").text
        assert f'status="{status}"' in metrics or "loop_capture_unavailable" in metrics
    assert len(upstream.asked) == 1


def _failing(*_: object, **__: object) -> None:
    words = "-".join(["planted", "words"])
    raise RuntimeError(words)


BEFORE = ["answering.usd_at_most", "call.Call.identify", "answering.Answering._frontier"]
AFTER = ["keeping.trace_row", "keeping._usd"]


@pytest.mark.parametrize("place", [*BEFORE, *AFTER, "chat_completions.read_reply"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_fault_of_ours_costs_a_trace_but_no_answer(
    gateway: Live,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    streamed: bool,
) -> None:
    folder = "formats" if place.startswith("chat") else "http"
    monkeypatch.setattr(f"loop_pipeline.gateway.{folder}.{place}", _failing)
    said = gateway.post(json=ASKED | {"stream": streamed})
    assert said.status_code == 200
    assert "deli" in said.text
    assert said.text.rstrip().endswith("[DONE]" if streamed else "}")
    assert "planted-words" not in said.text + caplog.text
    if not streamed or "read_reply" not in place:
        assert "RuntimeError" in caplog.text


def test_a_fault_in_reading_a_stream_costs_a_trace_but_no_answer(
    gateway: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "loop_pipeline.gateway.formats.chat_stream.StreamReader._take_chunk"
    monkeypatch.setattr(where, _failing)
    said = gateway.post(json=ASKED | {"stream": True})
    assert said.status_code == 200
    assert said.text.rstrip().endswith("[DONE]")
    assert "error" not in said.text
