"""A student's server may fail in any way: what comes of it is an answer in time, or a reason."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from loop_pipeline.gateway import students as module
from loop_pipeline.gateway.asking.patience import Limit, Patience
from loop_pipeline.gateway.students import NoAnswer, Students
from loop_pipeline.gateway.upstream.pool import Pool
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline_tests.raw_server import RawServer, reply, saying
from loop_pipeline_tests.shared import ends, free_port

ASK = [{"role": "user", "content": "where is my order?"}]


def completion(text: Any = "refund", **changes: Any) -> bytes:
    choice = {
        "message": {"content": text},
        "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    return reply(json.dumps({"choices": [choice | changes], "usage": usage}).encode())


@pytest.fixture
def servers() -> Iterator[list[RawServer]]:
    made = [RawServer(saying(completion())) for _ in range(3)]
    yield made
    for server in made:
        server.stop()


def with_students(urls: list[str], use: Callable[[Students], Awaitable[Any]], **more: Any) -> Any:
    async def run() -> Any:
        with closing(Pool()) as pool:
            made = Students(pool, urls, max_tokens=8, patience=Patience(2.0), **more)
            return await use(made)

    return asyncio.run(run())


def answer_of(urls: list[str], seconds: float = 5.0) -> Answer:
    return with_students(urls, lambda students: students.answer("s", ASK, Limit(seconds)))


def test_it_is_asked_exactly_as_it_was_evaluated(servers: list[RawServer]) -> None:
    one, other, _ = servers
    answer = answer_of([one.url])
    same = StudentServer(other.url, max_tokens=8).answer("s", ASK)
    assert one.asked == other.asked
    assert (answer.text, answer.token_logprobs, answer.tokens_in, answer.tokens_out) == (
        *(same.text, same.token_logprobs, same.tokens_in, same.tokens_out),
    )
    assert 0 < answer.latency_ms < 5000


GZIP = b"HTTP/1.1 200 X\r\ncontent-encoding: gzip"
NONSENSE = {
    "html": (reply(b"<html>Login</html>", kind="text/html"), "no JSON came back"),
    "other json": (reply(b'{"hello": 1}'), "lacks KeyError"),
    "a list": (reply(b"[1]"), "lacks TypeError"),
    "nan": (reply(b'{"choices": NaN}'), "no JSON came back"),
    "nested": (reply(b"[" * 100_000), "no JSON came back"),
    "content as list": (completion([{"type": "text", "text": "x"}]), "content is list"),
    "positive": (completion(logprobs={"content": [{"logprob": 5.0}]}), "log-probability is 5.0"),
    "as text": (completion(logprobs={"content": [{"logprob": "-1"}]}), "log-probability is '-1'"),
    "none": (completion(logprobs=None), "lacks TypeError"),
    "no http": (b"hello\r\n\r\n", "gave no answer"),
    "cut": (reply(b"x" * 100)[:-50], "gave no answer"),
    "nothing": (b"", "gave no answer"),
    "redirect": (b"HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "HTTP 307"),
    "500": (reply(b"{}", "500 Broken"), "HTTP 500"),
    "429": (reply(b"{}", "429 Busy"), "HTTP 429"),
    "400": (reply(b"{}", "400 No"), "HTTP 400"),
    "unknown": (reply(b"{}", "404 No"), "does not know s"),
    "gzip": (
        b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
        "gave no",
    ),
}


@pytest.mark.parametrize(("said", "reason"), NONSENSE.values(), ids=NONSENSE.keys())
def test_every_nonsense_is_no_answer_with_its_reason(
    servers: list[RawServer], said: bytes, reason: str
) -> None:
    def script(connection: Any, _: Any) -> None:
        connection.sendall(said)
        if not said or len(said) < 200:
            connection.close()

    servers[0].script = script
    with pytest.raises(NoAnswer, match=reason):
        answer_of([servers[0].url])


def test_what_does_not_fit_the_context_is_an_answer_that_never_goes_out(
    servers: list[RawServer],
) -> None:
    servers[0].script = saying(reply(b'{"message": "maximum context length is 512"}', "400 No"))
    assert answer_of([servers[0].url]).finish_reason == "too_long"


def test_a_reply_without_end_is_refused(
    servers: list[RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 50_000)
    servers[0].script = saying(reply(b" " * 60_000))
    with pytest.raises(NoAnswer, match="longer than"):
        answer_of([servers[0].url])


@pytest.mark.parametrize("data", [completion(), b"HTTP/1.1 200 " + b"O" * 1000])
def test_a_byte_now_and_then_does_not_keep_anybody_waiting(
    servers: list[RawServer], data: bytes
) -> None:
    servers[0].script = servers[0].drip(data)
    with ends(time.monotonic), pytest.raises(NoAnswer, match=r"did not answer within 0.4 s"):
        answer_of([servers[0].url], 0.4)


def test_whoever_is_given_up_is_told_so_by_a_closed_connection(servers: list[RawServer]) -> None:
    gone = threading.Event()

    def script(connection: Any, _: Any) -> None:
        connection.settimeout(5)
        if connection.recv(1) == b"":
            gone.set()

    servers[0].script = script

    async def use(students: Students) -> bool:
        with pytest.raises(NoAnswer):
            await students.answer("s", ASK, Limit(0.2))
        assert students.replicas[0].in_flight == 0
        return await asyncio.to_thread(gone.wait, 3)

    assert with_students([servers[0].url], use)


def test_a_failing_replica_costs_one_more_question_and_no_more(servers: list[RawServer]) -> None:
    broken = saying(reply(b"{}", "500 Broken"))
    servers[0].script = broken
    assert answer_of([server.url for server in servers]).text == "refund"
    assert [len(server.asked) for server in servers] == [1, 1, 0]
    servers[1].script = broken
    with pytest.raises(NoAnswer, match="HTTP 500"):
        answer_of([server.url for server in servers])
    assert [len(server.asked) for server in servers] == [2, 2, 0]


def test_the_replica_with_the_fewest_in_flight_is_asked(servers: list[RawServer]) -> None:
    release = threading.Event()

    def script(connection: Any, _: Any) -> None:
        release.wait(5)
        connection.sendall(completion())

    for server in servers:
        server.script = script

    async def use(students: Students) -> None:
        calls = [asyncio.create_task(students.answer("s", ASK, Limit(5))) for _ in range(6)]
        while sum(r.in_flight for r in students.replicas) < 6:
            await asyncio.sleep(0.005)
        assert [r.in_flight for r in students.replicas] == [2, 2, 2]
        release.set()
        assert {answer.text for answer in await asyncio.gather(*calls)} == {"refund"}

    with_students([server.url for server in servers], use)


def test_only_replicas_that_hold_the_adapter_are_asked(servers: list[RawServer]) -> None:
    def script(connection: Any, asked: Any, held: str) -> None:
        models = json.dumps({"data": [{"id": "base"}, {"id": held}]}).encode()
        connection.sendall(reply(models) if asked == "/v1/models" else completion(held))

    for server, held in zip(servers, ("old", "old", "new"), strict=True):
        server.script = lambda c, asked, held=held: script(c, asked, held)

    async def use(students: Students) -> None:
        await students.look()
        for _ in range(3):
            assert (await students.answer("new", ASK, Limit(5))).text == "new"
        with pytest.raises(NoAnswer, match="no server that does not rest holds newer"):
            await students.answer("newer", ASK, Limit(5))
        servers[2].script = saying(reply(b"<html>", kind="text/html"))
        await students.look()
        assert students.replicas[2].held == {"base", "new"}, "what is not said is not known"

    with_students([server.url for server in servers], use)


def test_a_replica_that_denies_an_adapter_is_not_asked_for_it_until_it_was_looked_at(
    servers: list[RawServer],
) -> None:
    servers[0].script = saying(reply(b"{}", "404 No"))

    async def use(students: Students) -> None:
        for _ in range(3):
            assert (await students.answer("s", ASK, Limit(5))).text == "refund"
        assert len(servers[0].asked) == 1
        models = reply(b'{"data": [{"id": "s"}]}')
        servers[0].script = lambda c, asked: c.sendall(models if asked == "/v1/models" else b"")
        await students.look()
        assert students.replicas[0].holds("s")
        assert students.replicas[0].failures == 0, "not to know an adapter is no failure"

    with_students([servers[0].url, servers[1].url], use)


def test_after_five_failures_a_replica_rests_and_is_then_probed_once(
    servers: list[RawServer],
) -> None:
    now = [100.0]
    bad, good = saying(reply(b"{}", "503 Busy")), servers[0].script
    servers[0].script = bad

    async def ask(students: Students) -> None:
        with pytest.raises(NoAnswer):
            await students.answer("s", ASK, Limit(5))

    async def use(students: Students) -> None:
        for _ in range(8):
            await ask(students)
        assert len(servers[0].asked) == 5
        now[0] += 9.9
        await ask(students)
        assert len(servers[0].asked) == 5
        now[0] += 0.2
        await ask(students)
        await ask(students)
        assert len(servers[0].asked) == 6, "one probe, and it rests again"
        now[0] += 10.1
        servers[0].script = good
        both = [students.answer("s", ASK, Limit(5)) for _ in range(2)]
        results = await asyncio.gather(*both, return_exceptions=True)
        assert [isinstance(r, NoAnswer) for r in results] == [False, True], "one probe at a time"
        assert (await students.answer("s", ASK, Limit(5))).text == "refund"

    with_students([servers[0].url], use, clock=lambda: now[0])


def test_a_client_that_leaves_or_waits_for_less_is_no_failure_of_the_server(
    servers: list[RawServer],
) -> None:
    servers[0].script = lambda connection, _: None

    async def use(students: Students) -> None:
        call = asyncio.create_task(students.answer("s", ASK, Limit(5)))
        while not students.replicas[0].in_flight:
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(NoAnswer):
            await students.answer("s", ASK, Limit(0.05, telling=False))
        assert (students.replicas[0].failures, students.replicas[0].in_flight) == (0, 0)
        with pytest.raises(NoAnswer):
            await students.answer("s", ASK, Limit(0.05))
        assert students.replicas[0].failures == 1

    with_students([servers[0].url], use)


def test_a_kept_connection_that_died_is_asked_again_on_a_fresh_one(
    servers: list[RawServer],
) -> None:
    def once(connection: Any, _: Any) -> None:
        connection.sendall(completion())
        connection.close()

    servers[0].script = once

    async def use(students: Students) -> None:
        for _ in range(4):
            assert (await students.answer("s", ASK, Limit(5))).text == "refund"
        assert students.replicas[0].failures == 0

    with_students([servers[0].url], use)


def test_nobody_listens() -> None:
    with pytest.raises(NoAnswer, match="gave no answer"):
        answer_of([f"http://127.0.0.1:{free_port()}"])
    with pytest.raises(NoAnswer, match="no server"):
        answer_of([])


def test_half_a_surrogate_pair_in_the_request_is_asked_as_it_came(
    servers: list[RawServer],
) -> None:
    odd = [{"role": "user", "content": "cut off \ud83d"}]
    with_students([servers[0].url], lambda students: students.answer("s", odd, Limit(5)))
    assert servers[0].asked[0]["messages"] == odd


def test_the_servers_key_is_sent(servers: list[RawServer]) -> None:
    async def use(students: Students) -> None:
        assert (b"authorization", b"Bearer secret") in students._headers

    with_students([], use, api_key="secret")
