"""Who is asked and why, what came of it, and the ``route`` that says so in the trace.

Not here: deciding and asking (``cascade.py``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loop_pipeline.gateway.asking.hidden_values import given_back
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.routing.decision import Decision
from loop_pipeline.routing.router import Router
from loop_pipeline.serving.student_answer import Answer

Messages = list[dict[str, Any]]
# Names the frontier's second answer to a request, and the coin that asks for it.
AGAIN = "again"


# Nobody changes these, but to make a frozen one takes twice as long, and a request makes several.
@dataclass(slots=True)
class Plan:
    """Who is asked, and why, before anybody is.

    ``adapter`` is asked first, None: the frontier at once. ``shadows`` are the other adapters that
    answer too, for the record only, because the coin of the decision fell so (``shadow``).
    ``contract`` is the request's or else its task's; ``messages`` are what a student is asked;
    ``values`` what was hidden in them, None if nothing hides anything. With a ``router`` the
    request is one that the policy speaks of. ``trace`` are the headers of the client's distributed
    trace, for our own servers only.
    """

    reason: str
    decision: Decision | None = None
    router: Router | None = field(default=None, repr=False)
    policy_sha256: str | None = None
    adapter: str | None = None
    shadows: tuple[str, ...] = ()
    shadow: bool = False
    forced: bool = False
    contract: dict[str, Any] | None = None
    messages: Messages = field(default_factory=list, repr=False)
    values: dict[str, str] | None = field(default=None, repr=False)
    trace: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def route(self) -> dict[str, Any]:
        """``route`` of the trace if the frontier answers; without ``wire``, times and ids."""
        return route_of(self, "frontier")


@dataclass(slots=True)
class Verdict:
    """Whether a student's answer goes out, and everything that was found about it.

    ``text`` is what goes out, if not the answer to the letter: see ``Settled``.
    """

    action: Literal["serve", "escalate"]
    reason: str
    score: float | None = None
    threshold: float | None = None
    flag: dict[str, Any] | None = None
    text: str | None = None


@dataclass(slots=True)
class Answered:
    """A model's answer that is kept as a trace of its own: the arguments of ``trace_row``.

    ``producer`` is "student" (``model`` is the adapter) or "frontier" (``model`` is the one asked).
    """

    prompt_id: str
    reply: Reply
    producer: str
    model: str
    latency_ms: float
    route: dict[str, Any]


@dataclass(slots=True)
class Tried:
    """What came of asking a student first.

    ``reply`` is its answer (None: there was none), to be sent only if ``serve``; ``route`` belongs
    to the trace of whatever goes out; ``rows`` are kept beside it. ``late`` is a shadow-drawn call
    that took longer than the client was kept waiting.
    """

    serve: bool
    reply: Reply | None
    reason: str
    route: dict[str, Any]
    latency_ms: float = 0.0
    rows: list[Answered] = field(default_factory=list)
    late: asyncio.Task[Answer] | None = field(default=None, repr=False)


def route_of(
    plan: Plan,
    rung: Literal["student", "frontier"],
    verdict: Verdict | None = None,
    *,
    failed: str | None = None,
) -> dict[str, Any]:
    """``route`` of the answer that goes out.

    Args:
        plan: of the request.
        rung: who answered.
        verdict: on the student's answer, if it gave one.
        failed: why the student gave none, if it was asked.
    """
    decision = plan.decision
    return {
        "arm": decision.arm if decision else "frontier",
        "adapter": plan.adapter,
        "group_id": decision.group_id if decision else None,
        "reason": plan.reason,
        "propensity": decision.propensity if decision else None,
        "shadow": plan.shadow,
        "canary": bool(decision and decision.canary),
        "action": verdict.action if verdict else None,
        "score": verdict.score if verdict else decision.score if decision else None,
        "threshold": verdict.threshold if verdict else None,
        "settled": verdict.reason if verdict else failed,
        "policy": plan.policy_sha256,
        "rung": rung,
        "forced": plan.forced,
        "flag": verdict.flag if verdict else None,
    }


def beside(
    plan: Plan,
    prompt_id: str,
    adapter: str | None,
    reply: Reply,
    latency_ms: float,
    verdict: Verdict | None = None,
    *,
    again: bool = False,
) -> Answered:
    """An answer to the request that does not go out, as a trace of its own.

    Args:
        plan: of the request.
        prompt_id: of the request.
        adapter: who answered; None: the frontier.
        reply: what was answered.
        latency_ms: how long it took.
        verdict: on it, if it could have gone out.
        again: it is the frontier's second answer, by which its agreement with itself is measured.
    """
    rung: Literal["student", "frontier"] = "frontier" if adapter is None else "student"
    model = adapter
    if model is None:
        model = plan.router.bundle.frontier.get("model", "") if plan.router else ""
    route = route_of(plan, rung, verdict) | {"shadow_of": prompt_id, "adapter": adapter}
    if again:
        route[AGAIN] = True
    name = AGAIN if again else adapter or rung
    return Answered(f"{prompt_id}~{name}", reply, rung, model, latency_ms, route)


def reply_of(answer: Answer, adapter: str) -> Reply:
    """A student's answer as the wire formats and the trace take it."""
    return Reply(
        text=answer.text,
        finish_reason=answer.finish_reason or None,
        model=adapter,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        token_logprobs=answer.token_logprobs,
    )


def tried_of(plan: Plan, prompt_id: str, answer: Answer, verdict: Verdict, took_ms: float) -> Tried:
    """What came of an answer that was judged."""
    adapter = plan.adapter or ""
    reply, serve = reply_of(answer, adapter), verdict.action == "serve"
    if serve:
        said = answer.text if verdict.text is None else verdict.text
        reply = replace(reply, text=given_back(said, plan.values))
    rows = [] if serve else [beside(plan, prompt_id, adapter, reply, answer.latency_ms, verdict)]
    route = route_of(plan, "student" if serve else "frontier", verdict)
    return Tried(serve, reply, verdict.reason, route, took_ms, rows)


def doubt(known: Plan, error: Exception) -> Plan:
    """The frontier's, because something failed that must not cost the request."""
    return replace(known, reason=f"the router failed: {error!r:.200}", router=None)
