"""Connections: kept, fresh, too old, too many, with certificates; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from loop_pipeline.gateway.upstream import pool as module
from loop_pipeline.gateway.upstream.exchange_http import Stale
from loop_pipeline.gateway.upstream.pool import Pool, origin_of, request_head
from loop_pipeline_tests.raw_server import RawServer, reply
from loop_pipeline_tests.shared import free_port
from loop_pipeline_tests.upstream import JSON, Script, Upstream, answer

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BODY = b'{"messages":[]}'


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    running = Upstream(lambda asked: answer())
    yield running
    running.stop()


async def ask(pool: Pool, url: str, **more: Any) -> int:
    origin = origin_of(url)
    head = request_head(origin, "POST", "/chat/completions", [(b"x-a", b"1")], BODY)
    exchange = await pool.send(origin, head, BODY, **more)
    try:
        assert b"delivery" in await exchange.read()
        return exchange.status
    finally:
        exchange.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def test_a_request_arrives_as_it_was_meant(run: Run, upstream: Upstream) -> None:
    async def use() -> None:
        with closing(Pool()) as pool:
            await ask(pool, upstream.url)

    run(use())
    (asked,) = upstream.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/v1/chat/completions", BODY)
    host = f"127.0.0.1:{upstream.port}"
    assert asked.headers == {"host": host, "x-a": "1", "content-length": str(len(BODY))}


def test_a_long_body_arrives_whole(run: Run, upstream: Upstream) -> None:
    long = b"x" * 5_000_000

    async def use() -> None:
        origin = origin_of(upstream.url)
        with closing(Pool()) as pool:
            head = request_head(origin, "POST", "/", [], long)
            await (await pool.send(origin, head, long)).read()

    run(use())
    assert upstream.asked[0].body == long


def test_connections_are_kept_a_fresh_one_is_another_and_none_outlives_the_pool(
    run: Run, upstream: Upstream
) -> None:
    async def use() -> None:
        with closing(Pool()) as pool:
            await ask(pool, upstream.url)
            await ask(pool, upstream.url)
            await ask(pool, upstream.url, fresh=True)
            assert upstream.open == 2
        await until(lambda: upstream.open == 0)

    run(use())
    first, second, fresh = (asked.connection for asked in upstream.asked)
    assert first == second != fresh


def test_what_is_idle_for_too_long_is_closed(
    run: Run, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.1)

    async def use() -> None:
        with closing(Pool()) as pool:
            await ask(pool, upstream.url)
            await until(lambda: upstream.open == 0)
            await ask(pool, upstream.url)

    run(use())
    first, second = (asked.connection for asked in upstream.asked)
    assert first != second


@pytest.mark.parametrize("told", [True, False])
def test_a_connection_that_was_closed_is_not_used_again(
    run: Run, upstream: Upstream, told: bool
) -> None:
    said = JSON | ({"connection": "close"} if told else {})
    upstream.then(Script(headers=said, parts=answer().parts, close=True))

    async def use() -> None:
        with closing(Pool()) as pool:
            assert await ask(pool, upstream.url) == 200
            try:
                await ask(pool, upstream.url)
            except Stale:
                assert not told, "it was known"
                await ask(pool, upstream.url)
            await ask(pool, upstream.url)

    run(use())
    assert len({asked.connection for asked in upstream.asked}) == 2


def test_an_answer_without_a_length_ends_with_the_connection(run: Run) -> None:
    def script(connection: socket.socket, _: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\ndeli")
        connection.sendall(b"very delivery")
        connection.close()

    server = RawServer(script)

    async def use() -> None:
        with closing(Pool()) as pool:
            assert await ask(pool, server.url) == 200
            assert await ask(pool, server.url) == 200

    run(use())
    server.stop()


def test_what_nobody_asked_for_closes_a_kept_connection(run: Run) -> None:
    more = threading.Event()

    def script(connection: socket.socket, _: Any) -> None:
        connection.sendall(reply(b"delivery"))
        if len(server.asked) == 1:
            more.wait(10)
            connection.sendall(reply(b"and another delivery"))

    server = RawServer(script)

    async def use() -> None:
        with closing(Pool()) as pool:
            assert await ask(pool, server.url) == 200
            (kept,) = next(iter(pool._idle.values()))
            more.set()
            await until(lambda: kept.closing)
            assert await ask(pool, server.url) == 200

    run(use())
    server.stop()


def test_whoever_leaves_closes_the_connection(run: Run, upstream: Upstream) -> None:
    upstream.then(Script(silent=True, end="hang"))

    async def use() -> None:
        with closing(Pool()) as pool:
            call = asyncio.ensure_future(ask(pool, upstream.url))
            await until(lambda: upstream.answering == 1)
            call.cancel()
            await until(lambda: upstream.open == 0)
            with pytest.raises(asyncio.CancelledError):
                await call

    run(use())


def test_more_than_there_are_slots_wait_and_none_is_lost(
    run: Run, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    ends = [Script(silent=True, end="reset"), Script(headers=JSON, parts=[b"{"], end="cut")]

    async def use() -> None:
        with closing(Pool()) as pool:
            nobody = f"http://127.0.0.1:{free_port()}"
            for _ in range(3):
                upstream.then(*ends)
                with pytest.raises(ConnectionRefusedError):
                    await ask(pool, nobody)
                for _ in ends:
                    with pytest.raises(OSError):
                        await ask(pool, upstream.url, fresh=True)
            upstream.then(Script(silent=True, end="hang"), Script(silent=True, end="hang"))
            hanging = [asyncio.ensure_future(ask(pool, upstream.url)) for _ in range(2)]
            await until(lambda: upstream.answering == 2)
            with pytest.raises(TimeoutError):
                await ask(pool, upstream.url, seconds=0.05)
            waiting = asyncio.ensure_future(ask(pool, upstream.url))
            for call in hanging:
                call.cancel()
            assert await waiting == 200
            assert await asyncio.gather(*(ask(pool, upstream.url) for _ in range(20))) == [200] * 20
            assert upstream.open <= 2

    run(use())


@pytest.mark.parametrize("header", [(b"a", b"b\r\nc: d"), (b"a", b"b\n"), (b"a\r", b"b")])
def test_a_header_does_not_become_two(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_head(origin_of("http://x/v1"), "POST", "/", [header], b"")


def test_urls_are_read_as_http_has_them() -> None:
    plain, named = origin_of("http://example.com/v1"), origin_of("https://u:p%40@example.com:444")
    assert (plain.host, plain.port, plain.tls, plain.path) == ("example.com", 80, False, "/v1")
    assert plain.fixed == b"host: example.com\r\n"
    assert (named.port, named.tls) == (444, True)
    assert named.fixed == b"host: example.com:444\r\nauthorization: Basic dTpwQA==\r\n"
    assert origin_of("http://[::1]:8000/v1").fixed == b"host: [::1]:8000\r\n"
    for wrong in ("ftp://x", "http://", "x"):
        with pytest.raises(ValueError, match="no URL"):
            origin_of(wrong)


def certificate(folder: Path) -> Path:
    """A certificate of ``localhost`` that vouches for itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "localhost.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(made.public_bytes(pem) + private)
    return path


def test_certificates_are_those_of_the_system_and_are_verified(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = certificate(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(path)

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(len(BODY))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\ndelivery")

    async def use() -> list[Any]:
        async def quiet(*streams: Any) -> None:
            try:
                await answering(*streams)
            except (OSError, asyncio.IncompleteReadError):
                streams[1].close()

        server = await asyncio.start_server(quiet, "127.0.0.1", 0, ssl=served)
        port = server.sockets[0].getsockname()[1]
        found: list[Any] = []
        with closing(Pool()) as pool:
            for host in ("localhost", "localhost", "127.0.0.1"):
                try:
                    found.append(await ask(pool, f"https://{host}:{port}", seconds=5))
                except OSError as error:
                    found.append(type(error))
        server.close()
        return found

    module._tls.cache_clear()
    assert run(use()) == [ssl.SSLCertVerificationError] * 3, "nobody here vouches for it"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    module._tls.cache_clear()
    try:
        assert run(use()) == [200, 200, ssl.SSLCertVerificationError], "another name"
    finally:
        module._tls.cache_clear()
