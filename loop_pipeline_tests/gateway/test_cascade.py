"""A student's answer goes out only where the policy, the client and the checks all agree."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from loop_pipeline.gateway.asking.answer_forms import EVERY
from loop_pipeline.gateway.asking.patience import Patience
from loop_pipeline.gateway.cascade import Answered, Cascade, Plan, Tried
from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.gateway.students import Students
from loop_pipeline.gateway.upstream.pool import Pool
from loop_pipeline.labels.hallucination.answer_check import check_answer
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.routing.policy import with_canary
from loop_pipeline_tests.gateway.small_policy import (
    CONTRACT,
    EMBEDDER,
    completion_bytes,
    messages,
    policy,
    router,
    student_says,
)
from loop_pipeline_tests.raw_server import RawServer, reply, saying
from loop_pipeline_tests.serving.examples import NEW

ROUTER = router()
ADAPTER = ROUTER.adapters[0]
ASK = Request("chat", "auto", messages(3), contract=CONTRACT)
# Ids that the shadow coin leaves out and draws.
PLAIN = next(f"p{i}" for i in range(99) if not ROUTER.decide(ASK.messages, f"p{i}").shadow)
DRAWN = next(f"p{i}" for i in range(99) if ROUTER.decide(ASK.messages, f"p{i}").shadow)


@pytest.fixture
def server() -> Iterator[RawServer]:
    made = RawServer(lambda connection, body: connection.sendall(reply(completion_bytes(body))))
    yield made
    made.stop()


def with_cascade(
    url: str, use: Callable[[Cascade], Awaitable[Any]], *, most_s: float = 5.0, **more: Any
) -> Any:
    async def run() -> Any:
        with closing(Pool()) as pool:
            students = Students(pool, [url], max_tokens=8, patience=Patience(most_s))
            parts: dict[str, Any] = {"router": lambda: ROUTER} | more
            cascade = Cascade(students, **parts)
            try:
                return await use(cascade)
            finally:
                await cascade.close(5)

    return asyncio.run(run())


def plan_of(request: Request, prompt_id: str = PLAIN, app: str = "desk", **more: Any) -> Plan:
    """The plan."""
    force = more.pop("force", False)

    async def use(cascade: Cascade) -> Plan:
        given: dict[str, Any] = {"app": app, "conversation_id": None, "force_frontier": force}
        return await cascade.plan(request, prompt_id, **given)

    return with_cascade("http://127.0.0.1:9", use, **more)


def test_a_certified_request_is_the_students() -> None:
    for model in ("auto", "big"):
        plan = plan_of(replace(ASK, model=model))
        assert (plan.adapter, plan.reason, plan.shadows) == (ADAPTER, "certified", ())
        assert plan.policy_sha256 == ROUTER.bundle.sha256


def broken_router() -> Any:
    raise RuntimeError("no policy today")


class BrokenRouter:
    bundle = ROUTER.bundle
    adapters = ROUTER.adapters

    def decide_many(self, _: Any) -> Any:
        raise RuntimeError("it fell over")


@pytest.mark.parametrize(
    ("request_", "more", "reason"),
    [
        (ASK, {"force": True}, "asks for the frontier"),
        (replace(ASK, frontier_only="tools"), {}, "no student may be asked: tools"),
        (replace(ASK, model="gpt-9"), {}, "the policy speaks of 'big', not of 'gpt-9'"),
        (ASK, {"app": "shop", "app_": "desk"}, "of the app 'desk', not of 'shop'"),
        (ASK, {"router": lambda: None}, "no policy in force"),
        (ASK, {"router": broken_router}, "no policy today"),
        (ASK, {"router": BrokenRouter}, "it fell over"),
        (ASK, {"holds": lambda: {"g-certified"}}, "group g-certified is held back"),
        (ASK, {"holds": broken_router}, "no policy today"),
        (ASK, {"hide": lambda text, _: text[1000]}, "IndexError"),
        (replace(ASK, messages=messages(3, "refused")), {}, "agreement is too low"),
        (replace(ASK, messages=messages(3, "unknown")), {}, "unknown prompt template"),
        (ASK, {"router": lambda: router(policy(expires="2026-01-01"))}, "expired"),
        (ASK, {"router": lambda: router_for("bigger")}, "void: frontier is bigger, was big"),
    ],
)
def test_every_doubt_is_the_frontiers_with_its_reason(
    request_: Request, more: dict[str, Any], reason: str
) -> None:
    given = dict(more)
    force, app = given.pop("force", False), given.pop("app", "desk")
    if "app_" in given:
        given["app"] = given.pop("app_")

    async def use(cascade: Cascade) -> Plan:
        asked: dict[str, Any] = {"app": app, "conversation_id": None, "force_frontier": force}
        return await cascade.plan(request_, PLAIN, **asked)

    plan = with_cascade("http://127.0.0.1:9", use, **given)
    assert plan.adapter is None
    assert reason in plan.reason
    assert (plan.route["arm"], plan.route["rung"]) == ("frontier", "frontier")
    assert reason in plan.route["reason"]
    json.dumps(plan.route)


def router_for(frontier: str) -> Any:
    from loop_pipeline.routing.router import Router

    return Router.load(policy(), EMBEDDER, running={"frontier": frontier})


def test_a_held_group_still_gathers_evidence() -> None:
    plan = plan_of(ASK, DRAWN, holds=lambda: {"g-certified"})
    assert (plan.adapter, plan.shadow, plan.shadows) == (None, True, (ADAPTER,))
    assert plan.route["propensity"] == 0.3


def test_a_group_that_is_looked_at_closely_is_drawn_more_often_and_the_chance_is_kept() -> None:
    names = [f"q{i}" for i in range(400)]

    async def use(cascade: Cascade) -> list[Plan]:
        return [await cascade.plan(ASK, n, app="", conversation_id=None) for n in names]

    closer = {"g-certified": 0.6, "g-refused": 1.0}
    plain, close, less = (
        with_cascade("http://127.0.0.1:9", use, shadow_rates=lambda given=given: given)
        for given in ({}, closer, {"g-certified": 0.1})
    )
    assert {plan.route["propensity"] for plan in close} == {0.6}
    assert all(c.shadow for p, c in zip(plain, close, strict=True) if p.shadow)
    share = sum(plan.shadow for plan in close) / len(close)
    assert abs(share - 0.6) < 3 * (0.6 * 0.4 / len(close)) ** 0.5
    assert [p.shadow for p in less] == [p.shadow for p in plain], "never less than the policy's"


def test_nobody_is_asked_besides_where_no_decision_was_made() -> None:
    for more in ({"force": True}, {"router": lambda: None}):
        plan = plan_of(ASK, DRAWN, **more)  # pyright: ignore[reportArgumentType]
        assert (plan.shadow, plan.shadows, plan.route["propensity"]) == (False, (), None)
    assert plan_of(ASK, force=True).route["forced"] is True


def test_a_conversation_stays_with_one_student() -> None:
    both = router(with_canary(policy(), policy(NEW), "25%", 0.5))

    async def use(cascade: Cascade) -> set[tuple[str, str | None]]:
        plans = [
            (f"c{i % 20}", await cascade.plan(ASK, f"q{i}", app="", conversation_id=f"c{i % 20}"))
            for i in range(200)
        ]
        return {(conversation, plan.adapter) for conversation, plan in plans}

    met = with_cascade("http://127.0.0.1:9", use, router=lambda: both)
    assert len(met) == 20
    assert {adapter for _, adapter in met} == set(both.adapters)


def test_what_arrives_in_one_turn_is_decided_together_and_the_same() -> None:
    sizes: list[int] = []

    class Counting:
        bundle, adapters = ROUTER.bundle, ROUTER.adapters
        task_of = ROUTER.task_of

        def decide_many(self, asked: Any) -> Any:
            sizes.append(len(asked))
            return ROUTER.decide_many(asked)

    async def use(cascade: Cascade) -> None:
        asked = [
            replace(ASK, messages=messages(i, ["certified", "unknown"][i % 2])) for i in range(30)
        ]
        plans = await asyncio.gather(
            *(cascade.plan(a, f"q{i}", app="", conversation_id=None) for i, a in enumerate(asked))
        )
        assert sizes == [30]
        assert {plan.reason for plan in plans} == {"certified", "unknown prompt template"}
        given: dict[str, Any] = {"app": "", "conversation_id": None}
        alone = [await cascade.plan(a, f"q{i}", **given) for i, a in enumerate(asked)]
        assert plans == alone

    counting = Counting()
    with_cascade("http://127.0.0.1:9", use, router=lambda: counting)


def tried(server: RawServer, request: Request = ASK, prompt_id: str = PLAIN, **more: Any) -> Tried:
    timeout = more.pop("client_timeout_s", None)

    async def use(cascade: Cascade) -> Tried:
        plan = await cascade.plan(request, prompt_id, app="", conversation_id=None)
        assert plan.adapter
        return await cascade.try_student(plan, request, prompt_id, timeout)

    return with_cascade(server.url, use, **more)


def sure(text: str, tokens: int = 3, logprob: float = -0.01, **changes: Any) -> Callable[..., None]:
    choice = {
        "message": {"content": text},
        "logprobs": {"content": [{"logprob": logprob}] * tokens},
        "finish_reason": "stop",
    } | changes
    usage = {"prompt_tokens": 20, "completion_tokens": tokens}
    return saying(reply(json.dumps({"choices": [choice], "usage": usage}).encode()))


def test_a_sure_answer_goes_out_and_its_route_says_everything(server: RawServer) -> None:
    server.script = sure("refund")
    got = tried(server)
    assert got.serve
    assert got.reply is not None
    assert (got.reply.text, got.reply.tokens_out, got.reply.model) == ("refund", 3, ADAPTER)
    assert got.rows == []
    flag = got.route.pop("flag")
    assert (flag["grounded"], flag["tier"]) == ("yes", "T0")
    assert got.route == {
        "arm": "student",
        "adapter": ADAPTER,
        "group_id": "g-certified",
        "reason": "certified",
        "propensity": 0.3,
        "shadow": False,
        "canary": False,
        "action": "serve",
        "score": pytest.approx(-0.03),
        "threshold": -1.0,
        "settled": "sure enough",
        "policy": ROUTER.bundle.sha256,
        "rung": "student",
        "forced": False,
    }


JSON = {"kind": "json", "schema": {"type": "string", "pattern": "(a|aa)+$"}}
TEXT = {"kind": "text", "max_words": 40}


@pytest.mark.parametrize(
    ("request_", "answer", "reason"),
    [
        (ASK, sure("refund", logprob=-3.0), "not sure enough"),
        (ASK, sure("gift"), "breaks its contract"),
        (ASK, sure(""), "empty"),
        (ASK, sure("refund", finish_reason="length"), "did not finish (length)"),
        (ASK, sure("refund", finish_reason=None), "did not finish"),
        (ASK, sure("refund", 0), "no log-probabilities"),
        (replace(ASK, max_tokens=2), sure("refund"), "3 tokens, the client wants at most 2"),
        (replace(ASK, stop=("", "\n", "fun")), sure("refund"), "stop string 3 of the client"),
        (replace(ASK, contract=JSON), sure('"' + "a" * 80 + '!"'), "in time"),
        (replace(ASK, contract={"labels": 3}), sure("refund"), "cannot be checked"),
        (replace(ASK, contract=TEXT), sure("It is order 4711."), "'4711' is not in the request"),
        (
            replace(ASK, contract=TEXT),
            sure("We gladly promise a gratis premium voucher by courier tomorrow."),
            "hallucination: words the source does not hold",
        ),
        (ASK, saying(reply(b"{}", "404 No")), "does not know"),
        (ASK, saying(reply(b'{"message": "context length"}', "400 X")), "(too_long)"),
        (ASK, sure("refund", logprob=5.0), "log-probability is 5.0"),
        (ASK, saying(reply(b"<html>")), "no JSON came back"),
    ],
)
def test_every_doubt_about_an_answer_escalates_with_its_reason(
    server: RawServer, request_: Request, answer: Any, reason: str
) -> None:
    server.script = answer
    got = tried(server, request_)
    assert not got.serve
    assert reason in got.reason
    assert reason in got.route["settled"]
    assert (got.route["arm"], got.route["adapter"], got.route["rung"]) == (
        *("student", ADAPTER, "frontier"),
    )
    json.dumps(got.route)
    if got.reply is None:
        assert (got.rows, got.route["action"]) == ([], None)
        return
    [row] = got.rows
    assert (row.prompt_id, row.producer, row.model) == (f"{PLAIN}~{ADAPTER}", "student", ADAPTER)
    assert row.reply == got.reply
    assert got.route["action"] == row.route["action"] == "escalate"
    assert row.route["shadow_of"] == PLAIN
    assert (row.route["settled"], row.route["shadow"]) == (got.reason, False)


def test_a_contract_of_the_task_counts_where_the_request_brings_none(server: RawServer) -> None:
    server.script = sure("gift")
    request = replace(ASK, contract=None)

    async def use(cascade: Cascade) -> Tried:
        plan = await cascade.plan(request, PLAIN, app="", conversation_id=None, task="intent")
        assert plan.contract == CONTRACT
        return await cascade.try_student(plan, request, PLAIN)

    got = with_cascade(
        server.url, use, contract_of=lambda _app, task: {"intent": CONTRACT}.get(task)
    )
    assert "breaks its contract" in got.reason


def test_the_verdict_is_the_offline_one(server: RawServer) -> None:
    said = "Customer asks about flight and hotel."
    server.script = sure(said)
    request = replace(
        ASK, contract=TEXT, messages=[ASK.messages[0], {"role": "user", "content": said}]
    )
    got = tried(server, request)
    trace = {
        "messages": request.messages,
        "contract": TEXT,
        "output": said,
        "finish_reason": "stop",
    }
    assert got.route["flag"] == check_answer(trace | {"template_hash": ""}, tiers=Tiers())


def test_the_form_of_answers_is_learned_and_a_promise_is_none(server: RawServer) -> None:
    async def use(cascade: Cascade) -> list[bool]:
        went_out = []
        for number in range(60):
            asked = replace(ASK, contract=TEXT, messages=messages(number))
            topic = " ".join(asked.messages[1]["content"].split()[:2])
            more = " and gets a free premium voucher" if number == 50 else ""
            server.script = sure(f"Customer requests compensation for {topic}{more}.")
            plan = await cascade.plan(asked, PLAIN, app="", conversation_id=None)
            went_out.append((await cascade.try_student(plan, asked, PLAIN)).serve)
        return went_out

    went_out = with_cascade(server.url, use)
    assert [i for i, out in enumerate(went_out) if i >= EVERY and not out] == [50]


def test_without_skill_nobody_looks_at_the_words(server: RawServer) -> None:
    detector = Tiers().detector.model_copy(update={"interval": (0.48, 0.6)})
    server.script = sure("We gladly promise a gratis premium voucher by courier tomorrow.")
    got = tried(server, replace(ASK, contract=TEXT), tiers=Tiers(detector))
    assert got.serve
    assert got.route["flag"]["grounded"] == "cannot_tell"


def test_what_is_hidden_is_asked_hidden(server: RawServer) -> None:
    got = tried(server, hide=lambda text, _: text.replace("number 3", "number <N>"))
    assert got.reply is not None
    assert server.asked[0]["messages"][1]["content"].endswith("number <N>")


def silent(connection: Any, _: Any) -> None:
    """Says nothing."""


def test_half_of_what_the_client_waits_is_the_students(server: RawServer) -> None:
    server.script = silent
    got = tried(server, client_timeout_s=0.4)
    assert "did not answer within 0.2 s" in got.reason
    assert (got.late, got.rows, got.route["action"]) == (None, [], None)


def run_drawn(
    server: RawServer,
    *,
    most_s: float = 5.0,
    request: Request = ASK,
    then: Callable[[], None] = lambda: None,
    within: float = 5.0,
    **more: Any,
) -> tuple[Tried | None, list[Answered], int, int]:
    """A request that the coin drew: what came of it, the rows, frontier calls, lost shadows."""
    rows: list[Answered] = []
    calls: list[int] = []

    async def ask_frontier() -> Reply:
        calls.append(1)
        return Reply(text="from the frontier", model="big-2026", tokens_out=3)

    async def use(cascade: Cascade) -> tuple[Tried | None, int]:
        plan = await cascade.plan(request, DRAWN, app="", conversation_id=None)
        assert plan.shadow
        got = await cascade.try_student(plan, request, DRAWN) if plan.adapter else None
        cascade.spawn_shadows(
            plan, got, request, DRAWN, keep=rows.append, ask_frontier=ask_frontier
        )
        then()
        await cascade.close(within)
        return got, cascade.shadows_lost_why.total()

    got, lost = with_cascade(server.url, use, most_s=most_s, **more)
    return got, [*(got.rows if got else []), *rows], len(calls), lost


def test_a_served_answer_that_was_drawn_is_set_beside_the_frontiers(server: RawServer) -> None:
    server.script = sure("refund")
    got, rows, calls, lost = run_drawn(server)
    assert got is not None
    assert (got.serve, got.route["shadow"], calls, lost) == (True, True, 1, 0)
    [row] = rows
    assert (row.prompt_id, row.producer, row.model) == (f"{DRAWN}~frontier", "frontier", "big")
    assert row.reply.text == "from the frontier"
    assert (row.route["shadow_of"], row.route["adapter"]) == (DRAWN, None)
    assert row.route["propensity"] == 0.3


def test_an_escalated_one_does_not_pay_the_frontier_twice(server: RawServer) -> None:
    server.script = sure("refund", logprob=-3.0)
    got, rows, calls, lost = run_drawn(server)
    assert got is not None
    assert (got.serve, calls, lost) == (False, 0, 0)
    assert [(row.prompt_id, row.route["shadow"]) for row in rows] == [(f"{DRAWN}~{ADAPTER}", True)]


def test_what_the_frontier_answers_is_asked_of_every_student_too(server: RawServer) -> None:
    both = router(with_canary(policy(), policy(NEW), "shadow", 0.0))
    got, rows, calls, lost = run_drawn(
        server, request=replace(ASK, messages=messages(3, "refused")), router=lambda: both
    )
    assert (got, calls, lost) == (None, 0, 0)
    assert {row.prompt_id for row in rows} == {f"{DRAWN}~{name}" for name in both.adapters}
    for row in rows:
        said, logprobs = student_says(row.model, messages(3)[-1]["content"])
        assert (row.reply.text, row.reply.token_logprobs) == (said, logprobs)
        assert (row.route["adapter"], row.route["action"]) == (row.model, None)


def test_a_drawn_answer_that_is_too_late_for_the_client_is_kept(server: RawServer) -> None:
    release = threading.Event()
    right = sure("refund")

    def script(connection: Any, body: Any) -> None:
        release.wait(5)
        right(connection, body)

    server.script = script
    got, rows, calls, lost = run_drawn(server, most_s=0.1, then=release.set)
    assert got is not None
    assert (got.serve, got.reply, calls, lost) == (False, None, 0, 0)
    assert "did not answer within 0.1 s" in got.reason
    [row] = rows
    assert (row.prompt_id, row.reply.text) == (f"{DRAWN}~{ADAPTER}", "refund")
    assert (row.route["action"], row.route["settled"]) == ("escalate", "too late")


def test_shadows_that_come_to_nothing_are_counted(server: RawServer) -> None:
    refused = replace(ASK, messages=messages(3, "refused"))
    server.script = saying(reply(b"<html>"))
    assert run_drawn(server, request=refused)[1:] == ([], 0, 1)
    server.script = silent
    assert run_drawn(server, request=refused, within=0.1)[1:] == ([], 0, 1)


def test_a_client_that_leaves_takes_its_question_along(server: RawServer) -> None:
    gone = threading.Event()

    def script(connection: Any, _: Any) -> None:
        connection.settimeout(5)
        if connection.recv(1) == b"":
            gone.set()

    server.script = script

    async def use(cascade: Cascade, prompt_id: str) -> bool:
        plan = await cascade.plan(ASK, prompt_id, app="", conversation_id=None)
        call = asyncio.create_task(cascade.try_student(plan, ASK, prompt_id))
        while not server.asked:
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return await asyncio.to_thread(gone.wait, 3)

    for prompt_id in (PLAIN, DRAWN):
        server.asked.clear()
        gone.clear()
        assert with_cascade(server.url, lambda cascade, p=prompt_id: use(cascade, p))


def test_it_needs_neither_pandas_nor_the_store() -> None:
    code = (
        "import sys, loop_pipeline.gateway.cascade;"
        "print({'pandas', 'sklearn', 'sqlalchemy', 'loop_pipeline.store'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
