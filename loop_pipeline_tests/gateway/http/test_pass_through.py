"""What is not captured passes through as it is, both ways."""

from __future__ import annotations

import gzip
import socket

import pytest

from loop_pipeline_tests.gateway.live import ASKED, Live, wait_for
from loop_pipeline_tests.upstream import EVENT_STREAM, JSON, Script, Upstream, failure


def test_any_other_path_passes_with_its_method_query_and_bytes(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(201, {"content-type": "x/y", "x-request-id": "r"}, [b"\0\1"]))
    said = gateway.post("/v1/images%2Fx/a?b=%20c", data=b"\xff\x00")
    assert (said.status_code, said.content) == (201, b"\0\1")
    assert (said.headers["content-type"], said.headers["x-request-id"]) == ("x/y", "r")
    (asked,) = upstream.asked
    assert (asked.method, asked.path, asked.body) == (
        "POST",
        "/v1/images%2Fx/a?b=%20c",
        b"\xff\x00",
    )
    assert asked.headers["authorization"] == "Bearer sk-vendor-planted"
    assert gateway.rows() == []


def test_a_long_upload_is_streamed_and_has_no_limit(gateway: Live, upstream: Upstream) -> None:
    pieces = [bytes([n]) * 2**20 for n in range(40)]
    said = gateway.post("/v1/files", data=iter(pieces))
    assert said.status_code == 200
    assert upstream.asked[0].body == b"".join(pieces)


def test_a_compressed_answer_stays_so(gateway: Live, upstream: Upstream) -> None:
    packed = gzip.compress(b"hello")
    upstream.then(Script(headers={"content-encoding": "gzip"}, parts=[packed]))
    said = gateway.get("/v1/x", stream=True, headers={"accept-encoding": "gzip"})
    assert said.raw.read(decode_content=False) == packed
    assert upstream.asked[0].headers["accept-encoding"] == "gzip"


def test_a_stream_passes_as_it_comes_and_a_cut_one_is_cut(
    gateway: Live, upstream: Upstream
) -> None:
    upstream.then(Script(headers=EVENT_STREAM, parts=[b"data: 1\n\n"], end="hang"))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(b"GET /v1/threads HTTP/1.1\r\nhost: x\r\n\r\n")
        seen = b""
        while b"data: 1\n\n" not in seen:
            seen += client.recv(65536)
    wait_for(lambda: upstream.answering == 0, 5)
    upstream.then(Script(headers=JSON, parts=[b"{", b"1"], end="cut"))
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(b"GET /v1/threads HTTP/1.1\r\nhost: x\r\n\r\n")
        seen = b""
        while more := client.recv(65536):
            seen += more
    assert not seen.endswith(b"0\r\n\r\n"), "nobody may take it for a whole answer"


def test_errors_pass_unchanged(gateway: Live, upstream: Upstream) -> None:
    upstream.then(failure(404))
    said = gateway.get("/v1/responses/resp_1")
    assert said.status_code == 404
    assert said.json()["error"]["message"] == "upstream says 404"


def test_anthropics_paths_get_anthropics_key(gateway: Live, upstream: Upstream) -> None:
    gateway.post("/v1/messages/count_tokens", json=ASKED)
    gateway.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
    gateway.get("/v1/models")
    keys = [(a.headers.get("x-api-key"), a.headers.get("authorization")) for a in upstream.asked]
    assert keys[:2] == [("sk-ant-planted", None)] * 2
    assert keys[2] == (None, "Bearer sk-vendor-planted")


@pytest.mark.parametrize(
    "path", ["/v1/../admin", "/v1/%2e%2e/admin", "/v1/a/..%2f..%2fb", "/v2/x", "/x"]
)
def test_no_path_leads_out_of_the_api(gateway: Live, upstream: Upstream, path: str) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        assert b"404" in client.recv(65536)
    assert upstream.asked == []


def test_host_is_not_trusted(gateway: Live, upstream: Upstream) -> None:
    gateway.get("/v1/x", headers={"host": "evil.example", "x-forwarded-host": "evil.example"})
    assert "evil" not in str(upstream.asked[0].headers)
