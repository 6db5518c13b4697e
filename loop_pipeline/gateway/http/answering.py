"""Answers one captured request: who is asked, what goes out, what is kept.

Not here: the frontier's answer (``from_frontier.py``), the student's (``cascade.py``), and the rest
of ``/v1/`` (``pass_through.py``).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial

from loop_pipeline.gateway.access.limits import usd_at_most
from loop_pipeline.gateway.cascade import Plan, Tried
from loop_pipeline.gateway.formats.exchange import BadRequest, Reply, Wire
from loop_pipeline.gateway.frontier.from_frontier import FromFrontier
from loop_pipeline.gateway.frontier.frontier_body import AUTO
from loop_pipeline.gateway.frontier.stream_out import EVENTS
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import (
    JSON,
    ClientGone,
    Presence,
    Receive,
    Scope,
    Send,
    Sent,
    read_body,
    send_whole,
)
from loop_pipeline.gateway.http.call import Call
from loop_pipeline.gateway.http.keeping import keep, keep_beside
from loop_pipeline.gateway.http.parts import FORMATS, Parts
from loop_pipeline.gateway.http.pass_through import PassThrough
from loop_pipeline.gateway.http.problems import (
    INTERNAL,
    Problem,
    log_fault,
    problem_of,
    send_problem,
)

_log = logging.getLogger(__name__)


class Answering:
    """ASGI endpoint of one wire format."""

    def __init__(self, parts: Parts, wire: Wire) -> None:
        self._parts, self._wire, self._shape = parts, wire, FORMATS[wire]
        self._unread = PassThrough(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; whatever happens, the client gets an answer in its own format."""
        if scope["method"] != "POST":
            await self._unread(scope, receive, send)
            return
        sent = Sent(send)
        counters.in_flight.inc()
        try:
            await self._run(scope, receive, sent)
        except ClientGone:
            counters.cancelled.inc()
        except Exception as error:  # noqa: BLE001  the client is told, whatever it was
            problem = problem_of(error)
            if problem.status >= 500:
                _log.warning("no answer to a request of %s: %s", self._wire, problem)
            if sent.started:
                raise problem from None
            await send_problem(send, problem, self._shape)
        finally:
            counters.in_flight.dec()

    async def _run(self, scope: Scope, receive: Receive, send: Sent) -> None:
        parts, given = self._parts, scope["headers"]
        headers = dict(given)
        call = Call(parts.access.caller(headers), headers, given)
        call.caller.must("call")
        if parts.config.capture == "required" and not parts.capture.writable and call.captured:
            raise Problem(503, "loop_capture_unavailable", "no trace can be written now")
        call.body = await read_body(receive, headers.get(b"content-length"))
        try:
            if self._read(call):
                await self._read_one(call, scope, receive, send)
                return
        except Exception as error:
            # A fault of ours costs the trace, not the answer.
            if problem_of(error).code != INTERNAL or send.started:
                raise
        counters.unread.labels(self._wire).inc()
        await self._unread.with_body(scope, receive, send, call.caller, call.body)

    async def _read_one(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        call.identify(self._parts.secrets.installation.encode())
        assert call.request is not None
        call.model = self._model_of(call.request.model)
        usd = usd_at_most(self._parts.prices, call.model, len(call.body), call.request.max_tokens)
        reserved = call.caller.limits.begin(usd)
        try:
            await self._answer(call, scope["query_string"], receive, send)
        finally:
            call.caller.limits.end(reserved, call.usd)

    def _read(self, call: Call) -> bool:
        """Whether the request can be read; other JSON is the frontier's to judge.

        Raises:
            Problem: it is no JSON object.
        """
        if call.headers.get(b"content-encoding", b"identity") != b"identity":
            return False
        try:
            call.request = self._shape.read_request(call.body)
        except BadRequest as error:
            if error.field is None:
                raise Problem(400, "loop_bad_request", f"{error}") from None
            return False
        return True

    def _model_of(self, asked: str) -> str:
        """What ``auto`` stands for.

        Raises:
            Problem: nothing says so.
        """
        if asked != AUTO:
            return asked
        router = self._parts.files.router
        model = self._parts.config.frontier_model or (
            router.bundle.frontier.get("model", "") if router else ""
        )
        if not model:
            said = "'auto' stands for no model yet: set LOOP_FRONTIER_MODEL, or name a model"
            raise Problem(400, "loop_auto_unknown", said, param="model")
        return model

    async def _answer(self, call: Call, query: bytes, receive: Receive, send: Send) -> None:
        frontier: FromFrontier | None = None
        with_student = tried = None
        try:
            with Presence(receive) as presence:
                plan = await self._plan(call)
                plan = replace(plan, trace=call.trace) if call.trace else plan
                call.holds_to(plan.contract)
                if plan.adapter is not None:
                    with_student = plan.adapter
                    tried = await self._try(call, plan)
                call.route = self._route(call, plan, tried)
                who = "student" if tried and tried.serve else "escalated" if tried else "frontier"
                frontier = self._frontier(call, plan, tried, who, query)
                self._shadows(call, plan, tried, frontier)
                if tried is not None and tried.serve and tried.reply is not None:
                    await self._serve(call, plan, tried, send, presence)
                else:
                    await frontier.answer(send, presence)
        except ClientGone:
            await self._cancelled(call, frontier, with_student)
            raise
        counters.answered(self._wire, who, call.status, call.began, call.first_byte)

    async def _plan(self, call: Call) -> Plan:
        assert call.request is not None
        if not call.caller.vouched:
            return Plan(reason="the frontier has not accepted this key of late")
        try:
            return await self._parts.cascade.plan(
                call.request,
                call.prompt_id,
                app=call.caller.app,
                conversation_id=call.conversation_id,
                task=call.task,
                force_frontier=call.forced,
            )
        except Exception as error:  # noqa: BLE001  any doubt goes to the frontier
            log_fault(error)
            return Plan(reason=f"the policy could not be asked: {type(error).__name__}")

    async def _try(self, call: Call, plan: Plan) -> Tried:
        assert call.request is not None
        began = time.perf_counter()
        tried = await self._parts.cascade.try_student(
            plan, call.request, call.prompt_id, call.client_timeout_s
        )
        call.elsewhere += time.perf_counter() - began
        for row in tried.rows:
            keep_beside(self._parts, call, row)
        return tried

    def _route(self, call: Call, plan: Plan, tried: Tried | None) -> dict[str, object]:
        route: dict[str, object] = {**(tried.route if tried else plan.route), "wire": self._wire}
        if call.trace:
            _, route["trace_id"], route["span_id"], _ = call.trace["traceparent"].split("-")
        if call.forced:
            route["forced"] = True
        if call.retries:
            route["sdk_retry"] = call.retries
        return route

    def _frontier(
        self, call: Call, plan: Plan, tried: Tried | None, who: str, query: bytes
    ) -> FromFrontier:
        reason = tried.reason if tried else plan.reason
        told = call.own_headers(who=who, model=call.model, reason=reason, policy=plan.policy_sha256)
        return FromFrontier(self._parts, call, self._shape, told, query)

    def _shadows(self, call: Call, plan: Plan, tried: Tried | None, frontier: FromFrontier) -> None:
        if not plan.shadow or call.request is None:
            return
        self._parts.cascade.spawn_shadows(
            plan,
            tried,
            call.request,
            call.prompt_id,
            keep=partial(keep_beside, self._parts, call),
            ask_frontier=frontier.ask_beside,
        )

    async def _serve(
        self, call: Call, plan: Plan, tried: Tried, send: Send, presence: Presence
    ) -> None:
        request, reply = call.request, tried.reply
        assert request is not None and reply is not None
        adapter = plan.adapter or ""
        write = self._shape.write_stream if request.stream else self._shape.write_reply
        body = write(
            request,
            reply,
            prompt_id=call.prompt_id,
            created=int(call.ts.timestamp()),
            system_fingerprint=f"loop-{adapter}",
        )
        call.answered()
        await keep(self._parts, call, reply, producer="student", model=adapter)
        policy = plan.policy_sha256
        told = call.own_headers(who="student", model=adapter, reason=tried.reason, policy=policy)
        told.append((b"x-loop-overhead-ms", b"%.3f" % call.overhead_ms()))
        presence.done()
        await send_whole(send, 200, [*(EVENTS if request.stream else [JSON]), *told], body)

    async def _cancelled(
        self, call: Call, frontier: FromFrontier | None, adapter: str | None
    ) -> None:
        """The client left: what was said so far is kept, and teaches nothing."""
        if call.kept:
            return
        said = frontier.said() if frontier is not None else Reply()
        call.route = call.route or {"wire": self._wire, "adapter": adapter}
        said = replace(said, finish_reason="cancelled")
        await keep(self._parts, call, said, producer="frontier", model=call.model)
