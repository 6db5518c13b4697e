"""Streams on their way through, as `gateway.md` section 5 asks: whole, broken, silent, left."""

from __future__ import annotations

import json
import socket
from typing import Any

import openai
import pytest

from loop_pipeline_tests.gateway.live import ASKED, Live, wait_for
from loop_pipeline_tests.upstream import (
    DONE,
    EVENT_STREAM,
    JSON,
    Script,
    Upstream,
    chunk,
    completion,
    events,
    failure,
    stream,
)

STREAMED: dict[str, Any] = ASKED | {"stream": True}


def _texts(body: str) -> list[Any]:
    found = [line[6:] for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(text) for text in found if text != "[DONE]"]


def test_a_stream_passes_and_its_trace_is_its_sum(gateway: Live, upstream: Upstream) -> None:
    said = gateway.post(json=STREAMED)
    assert said.headers["content-type"].startswith("text/event-stream")
    assert said.text.endswith("data: [DONE]\n\n")
    prompt_id = said.headers["x-loop-prompt-id"]
    assert {one["id"] for one in _texts(said.text)} == {f"chatcmpl-{prompt_id}"}
    row = gateway.row(prompt_id)
    assert (row["output"], row["finish_reason"], row["tokens_in"]) == ("delivery", "stop", 21)
    assert upstream.asked[0].json()["stream_options"] == {"include_usage": True}
    assert all(one["choices"] for one in _texts(said.text)), "the client did not ask for usage"


def test_usage_passes_to_those_who_asked_for_it(gateway: Live) -> None:
    said = gateway.post(json=STREAMED | {"stream_options": {"include_usage": True}})
    usage = next(one["usage"] for one in _texts(said.text) if not one["choices"])
    assert usage["prompt_tokens"] == 21


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_events_pass_whole_however_they_were_cut(
    gateway: Live, upstream: Upstream, newline: bytes, size: int
) -> None:
    sent = b"".join(events("deli", "very")).replace(b"\n", newline)
    pieces = [sent[n : n + size] for n in range(0, len(sent), size)]
    upstream.then(Script(headers=EVENT_STREAM, parts=pieces))
    said = gateway.post(json=STREAMED | {"stream_options": {"include_usage": True}})
    prompt_id = said.headers["x-loop-prompt-id"]
    assert said.content == sent.replace(b"chatcmpl-upstream1", f"chatcmpl-{prompt_id}".encode())
    assert gateway.row(prompt_id)["output"] == "delivery"


def test_events_come_as_they_are_made_not_at_the_end(gateway: Live, upstream: Upstream) -> None:
    upstream.then(Script(headers=EVENT_STREAM, parts=events("deli")[:2], end="hang"))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        _send(client, STREAMED)
        seen = b""
        while b'"deli"' not in seen:
            seen += client.recv(65536)
    assert b"200 OK" in seen


@pytest.mark.parametrize("end", ["well", "cut", "reset"])
def test_a_stream_that_ends_early_ends_with_an_error_event(
    gateway: Live, upstream: Upstream, end: str
) -> None:
    upstream.then(
        Script(headers=EVENT_STREAM, parts=events("deli", "very")[:2], pause=0.1, end=end)
    )
    said = gateway.post(json=STREAMED)
    *whole, last = _texts(said.text)
    assert [one["choices"][0]["delta"].get("content") for one in whole] == ["", "deli"]
    assert last["error"]["code"] == "loop_frontier_broken"
    assert "[DONE]" not in said.text
    row = gateway.row(said.headers["x-loop-prompt-id"])
    assert (row["output"], row["finish_reason"]) == ("deli", "broken")


def test_openais_client_raises_for_a_stream_that_ended_early(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers=EVENT_STREAM, parts=events("deli", "very")[:2]))
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.APIError, match="ended before its end"):
        list(client.chat.completions.create(**STREAMED))


def test_half_an_event_at_the_end_is_not_passed_on(gateway: Live, upstream: Upstream) -> None:
    parts = [events("deli")[1], b'data: {"choices": [{"index": 0, "del']
    upstream.then(Script(headers=EVENT_STREAM, parts=parts, end="cut"))
    said = gateway.post(json=STREAMED)
    assert _texts(said.text)[-1]["error"]["code"] == "loop_frontier_broken"


def test_a_finish_reason_without_done_is_an_end(gateway: Live, upstream: Upstream) -> None:
    upstream.then(
        Script(headers=EVENT_STREAM, parts=[chunk({"content": "yes"}), chunk({}, "stop")])
    )
    said = gateway.post(json=STREAMED)
    assert "error" not in said.text
    assert gateway.row(said.headers["x-loop-prompt-id"])["finish_reason"] == "stop"


def test_an_end_without_its_last_empty_line_is_completed(gateway: Live, upstream: Upstream) -> None:
    sent = b"".join(events("yes"))
    upstream.then(Script(headers=EVENT_STREAM, parts=[sent.rstrip(b"\n")]))
    said = gateway.post(json=STREAMED)
    assert said.text.endswith("data: [DONE]\n\n")
    assert gateway.row(said.headers["x-loop-prompt-id"])["tokens_out"] == 3


def test_bad_json_inside_an_event_passes(gateway: Live, upstream: Upstream) -> None:
    sent = [chunk({"content": "yes"}), b"data: {nope\n\n", chunk({}, "stop"), DONE]
    upstream.then(Script(headers=EVENT_STREAM, parts=sent))
    said = gateway.post(json=STREAMED)
    assert "data: {nope\n\n" in said.text
    assert gateway.row(said.headers["x-loop-prompt-id"])["finish_reason"] == "broken"


def test_an_error_before_the_first_event_keeps_its_status(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(failure(429, **{"retry-after": "7"}))
    said = gateway.post(json=STREAMED)
    assert (said.status_code, said.headers["retry-after"]) == (429, "7")
    assert said.json()["error"]["message"] == "upstream says 429"


def test_a_stream_that_breaks_before_its_first_event_is_a_502(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers=EVENT_STREAM, parts=[b": hello\n"], end="cut"))
    said = gateway.post(json=STREAMED)
    assert said.status_code == 502
    assert gateway.rows() == []


def test_an_answer_in_one_piece_to_a_wish_for_a_stream_passes(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers=JSON, parts=[completion()]))
    said = gateway.post(json=STREAMED)
    assert said.json()["choices"][0]["message"]["content"] == "delivery"
    assert gateway.row(said.headers["x-loop-prompt-id"])["output"] == "delivery"


def test_an_unwished_stream_passes_as_one(gateway: Live, upstream: Upstream) -> None:
    upstream.then(stream("deli", "very"))
    said = gateway.post()
    assert gateway.row(said.headers["x-loop-prompt-id"])["output"] == "delivery"


def test_silence_is_bridged_by_comments_that_clients_can_take(
    gateway: Live, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.frontier.stream_out.SILENCE_S", 0.1)
    upstream.then(stream("deli", "very", first_after=0.5, pause=0.25))
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
    raw = client.chat.completions.with_raw_response.create(**STREAMED)
    assert raw.status_code == 200
    text = "".join(piece.choices[0].delta.content or "" for piece in raw.parse())
    assert text == "delivery"
    upstream.then(stream("deli", "very", first_after=0.5, pause=0.25))
    said = gateway.post(json=STREAMED)
    assert said.text.startswith(": keep-alive\n")
    assert ": keep-alive\n\n" not in said.text.replace(": keep-alive\n: keep-alive\n", "")
    assert said.text.count(": keep-alive\n") > 4
    assert said.text.endswith("data: [DONE]\n\n")


def test_a_failure_after_silence_is_an_error_event(
    gateway: Live, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.frontier.stream_out.SILENCE_S", 0.1)
    refused = failure(503)
    refused.first_after = 0.5
    upstream.then(refused, Script(first_after=0.5, silent=True, end="reset"))
    upstream.then(Script(first_after=0.5, silent=True, end="reset"))
    said = gateway.post(json=STREAMED)
    assert said.status_code == 200
    assert _texts(said.text)[-1]["error"]["code"] == "loop_frontier_refused"
    said = gateway.post(json=STREAMED)
    assert _texts(said.text)[-1]["error"]["code"] == "loop_frontier_unreachable"


def test_a_stream_that_falls_silent_is_cut_and_the_frontier_let_go(
    gateway: Live, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loop_pipeline.gateway.frontier.stream_out.GAP_S", 0.3)
    upstream.then(Script(headers=EVENT_STREAM, parts=events("deli")[:2], end="hang"))
    said = gateway.post(json=STREAMED)
    assert "silent for too long" in _texts(said.text)[-1]["error"]["message"]
    wait_for(lambda: upstream.answering == 0)


def test_a_client_that_leaves_in_the_middle_ends_the_frontiers_work(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers=EVENT_STREAM, parts=events("deli")[:2], end="hang"))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        _send(client, STREAMED)
        while b'"deli"' not in client.recv(65536):
            pass
    wait_for(lambda: upstream.answering == 0, 5)
    wait_for(lambda: gateway.rows())
    (row,) = gateway.rows()
    assert (row["output"], row["finish_reason"]) == ("deli", "cancelled")


def test_the_trace_is_on_file_before_the_last_byte_goes_out(
    gateway: Live, upstream: Upstream
) -> None:
    for script in (stream("deli", "very"), stream("deli", "very", pause=0.05)):
        upstream.then(script)
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
            _send(client, STREAMED)
            seen = b""
            while b"[DONE]" not in seen:
                seen += client.recv(1)  # byte by byte: nothing after it has been read
            prompt_id = seen.partition(b"x-loop-prompt-id: ")[2].partition(b"\r\n")[0].decode()
            assert gateway.row(prompt_id)["output"] == "delivery"


def test_n_answers_are_not_taken_for_one(gateway: Live, upstream: Upstream) -> None:
    def of(index: int, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return chunk({}, choices=[choice])

    sent = [of(0, {"content": "one"}), of(0, {}, "stop"), of(1, {"content": "two"})]
    sent += [of(1, {}, "stop"), DONE]
    upstream.then(Script(headers=EVENT_STREAM, parts=sent, pause=0.03))
    said = gateway.post(json=STREAMED | {"n": 2})
    assert [one["choices"][0]["index"] for one in _texts(said.text)] == [0, 0, 1, 1]
    assert gateway.row(said.headers["x-loop-prompt-id"])["output"] == "one"


def _send(client: socket.socket, asked: dict[str, Any]) -> None:
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
