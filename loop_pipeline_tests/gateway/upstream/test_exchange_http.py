"""Answers as they come: cut anywhere, packed, too large, late, and no answers at all."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.upstream.exchange_http import (
    MOST_HEAD,
    MOST_WAITING,
    BadAnswer,
    Exchange,
    Stale,
)

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\nX-A: 1\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Late: 1\r\n\r\n"
WHOLE = {
    "a length": LENGTH,
    "chunks and what follows them": CHUNKED,
    "100 first": b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + LENGTH,
    "hints first": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + CHUNKED,
}


class Line:
    """A connection that only notes what it is told."""

    def __init__(self) -> None:
        self.ended = 0
        self.told: list[str] = []

    def done(self, exchange: Exchange) -> None:
        self.ended += 1

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self, exchange: Exchange) -> None:
        self.told.append("resume")


def asked(line: Line, *, seconds: float | None = None, kept: bool = False) -> Exchange:
    return Exchange(line, seconds, kept=kept)


def said(pieces: Sequence[bytes], *, closed: bool = False) -> tuple[int, bytes, Exchange]:
    """What an exchange makes of these bytes."""

    async def run() -> tuple[int, bytes, Exchange]:
        line = Line()
        exchange = asked(line)
        for piece in pieces:
            if not line.ended:
                exchange.feed(piece)
        if closed:
            exchange.lost(None)
        await exchange.head()
        exchange.unpack()
        body = await exchange.read()
        assert line.ended == 1
        return exchange.status, body, exchange

    return asyncio.run(run())


@pytest.mark.parametrize("sent", WHOLE.values(), ids=WHOLE.keys())
@given(cuts=st.lists(st.integers(1, 120), max_size=6))
def test_an_answer_is_the_same_wherever_it_was_cut(sent: bytes, cuts: list[int]) -> None:
    edges = sorted({0, *(cut for cut in cuts if cut < len(sent)), len(sent)})
    pieces = [sent[begin:end] for begin, end in pairwise(edges)]
    status, body, exchange = said(pieces)
    assert (status, body, exchange.reusable) == (200, b"hello", True)
    assert not {b"x-early", b"x-late", b"link"} & set(exchange.headers)


def test_names_of_headers_are_small_and_those_that_come_twice_stay() -> None:
    _, _, exchange = said([OK + b"X-A: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n"])
    assert exchange.raw_headers[:2] == [(b"x-a", b"1"), (b"x-a", b"2")]


def test_what_has_no_body_ends_with_its_head() -> None:
    assert said([b"HTTP/1.1 204 No\r\n\r\n"])[:2] == (204, b"")
    assert said([b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n"])[:2] == (304, b"")


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    status, body, exchange = said([OK + b"\r\nhel", b"lo"], closed=True)
    assert (status, body, exchange.reusable) == (200, b"hello", False)


def test_a_server_that_closes_is_believed() -> None:
    assert not said([OK + b"connection: close\r\ncontent-length: 1\r\n\r\nx"])[2].reusable


@pytest.mark.parametrize("more", [b"x", LENGTH, b"HTTP/1.1 200 OK\r\n"])
def test_after_more_than_was_asked_for_a_connection_is_not_used_again(more: bytes) -> None:
    _, body, exchange = said([LENGTH + more])
    assert (body, exchange.reusable) == (b"hello", False)


BROKEN = {
    "no http": [b"hello\r\n\r\n"],
    "a head without end": [OK, b"x: " + b"y" * MOST_HEAD],
    "a bad chunk": [OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n"],
    "a length beside chunks": [OK + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc"],
    "another protocol": [b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"],
    "brotli": [OK + b"content-encoding: br\r\ncontent-length: 3\r\n\r\n\x0b\x02\x80"],
    "no gzip": [OK + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"],
    "half a gzip": [
        OK + b"content-encoding: gzip\r\ncontent-length: 12\r\n\r\n" + gzip.compress(b"abc")[:12]
    ],
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_answer_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(BadAnswer):
        said(pieces)


@pytest.mark.parametrize("sent", [LENGTH[:-1], CHUNKED[:-5], OK])
def test_an_answer_that_is_cut_is_an_error(sent: bytes) -> None:
    with pytest.raises(ConnectionResetError):
        said([sent], closed=True)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_packed_answer_is_unpacked_a_bounded_piece_at_a_time(
    pack: Callable[[bytes], bytes],
) -> None:
    plain = b"0" * 10_000_000
    packed = pack(plain)
    coding = b"gzip" if pack is gzip.compress else b"deflate"
    head = OK + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (coding, len(packed))

    async def run() -> list[int]:
        exchange = asked(Line())
        exchange.feed(head + packed)
        exchange.unpack()
        return [len(piece) async for piece in exchange]

    sizes = asyncio.run(run())
    assert (sum(sizes), max(sizes)) == (len(plain), MOST_WAITING)


def test_an_upstream_that_is_faster_than_its_reader_has_to_wait() -> None:
    async def run() -> None:
        line = Line()
        exchange = asked(line)
        exchange.feed(OK + b"content-length: %d\r\n\r\n" % (10 * MOST_WAITING))
        for _ in range(5):
            exchange.feed(b"x" * MOST_WAITING)
        assert set(line.told) == {"pause"}
        assert len(await anext(exchange)) == 5 * MOST_WAITING
        assert line.told[-1] == "resume"
        exchange.close()

    asyncio.run(run())


def test_time_is_for_all_of_an_answer() -> None:
    async def run() -> None:
        line = Line()
        slow = asked(line, seconds=0.02)
        with pytest.raises(TimeoutError):
            await slow.head()
        slow = asked(line, seconds=0.02)
        slow.feed(LENGTH[:-1])
        await slow.head()
        with pytest.raises(TimeoutError):
            await slow.read()
        assert line.ended == 2

    asyncio.run(run())


def test_only_a_kept_connection_that_said_nothing_was_stale() -> None:
    async def run(*, kept: bool, heard: bytes) -> None:
        exchange = asked(Line(), kept=kept)
        if heard:
            exchange.feed(heard)
        exchange.lost(None)
        await exchange.head()

    with pytest.raises(Stale):
        asyncio.run(run(kept=True, heard=b""))
    for kept, heard in ((False, b""), (True, b"HTTP/1.1")):
        with pytest.raises(ConnectionResetError):
            asyncio.run(run(kept=kept, heard=heard))


def test_whoever_waits_for_what_is_closed_on_our_side_is_told() -> None:
    async def run() -> None:
        exchange = asked(Line())
        exchange.feed(LENGTH[:-1])
        await exchange.head()
        assert await anext(exchange) == b"hell"
        asyncio.get_running_loop().call_soon(exchange.close)
        with pytest.raises(ConnectionAbortedError):
            await anext(exchange)

    asyncio.run(run())
