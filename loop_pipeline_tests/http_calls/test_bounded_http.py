"""No server keeps a caller longer than it wants to wait, or sends more than it wants to hold."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from loop_pipeline.http_calls import bounded_http
from loop_pipeline.http_calls.bounded_http import BoundedHttp
from loop_pipeline_tests.raw_server import RawServer, reply, saying
from loop_pipeline_tests.shared import ends

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@pytest.fixture
def server() -> Iterator[RawServer]:
    made = RawServer(saying(reply(b'{"a": 1}')))
    yield made
    made.stop()


def test_a_whole_reply_comes_back_and_the_connection_is_kept(server: RawServer) -> None:
    http = BoundedHttp()
    for _ in range(3):
        got = http.send("POST", server.url, {"x": "ü"}, 5)
        assert (got.status, got.ok, got.json()) == (200, True, {"a": 1})
    assert server.asked == [{"x": "ü"}] * 3


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"content-length: 1000\r\n\r\n" + b" " * 1000,
        HEAD + b"\r\n" + b" " * 1000,
        HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 300,
        b"HTTP/1.1 200 " + b"O" * 1000,
        HEAD + b"x-more: " + b"a" * 1000,
    ],
    ids=["body", "body without a length", "chunks", "status line", "header"],
)
def test_a_byte_now_and_then_is_no_reason_to_wait_for_ever(server: RawServer, data: bytes) -> None:
    server.script = server.drip(data)
    with ends(time.monotonic), pytest.raises(requests.Timeout):
        BoundedHttp().send("GET", server.url, None, 0.5)


def test_silence_ends_at_the_same_time(server: RawServer) -> None:
    server.script = lambda connection, _: None
    with pytest.raises(requests.Timeout):
        BoundedHttp().send("GET", server.url, None, 0.3)


def test_a_thread_that_was_cut_off_can_ask_again(server: RawServer) -> None:
    http, good = BoundedHttp(), server.script
    server.script = server.drip(HEAD + b"content-length: 1000\r\n\r\n" + b" " * 1000)
    with pytest.raises(requests.Timeout):
        http.send("GET", server.url, None, 0.3)
    server.script = good
    assert http.send("GET", server.url, None, 5).json() == {"a": 1}


def test_a_reply_without_end_is_refused(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "MAX_BYTES", 100_000)
    server.script = saying(reply(b"x" * 100_001))
    with pytest.raises(bounded_http.TooLarge):
        BoundedHttp().send("GET", server.url, None, 5)
