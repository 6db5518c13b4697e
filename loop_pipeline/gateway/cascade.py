"""Asks a student first where the policy says so, and decides whether its answer goes out.

Not here: the frontier (``forward.py``), the student's servers (``students.py``), and bytes of any
wire format (``formats``).

One request: ``plan`` (or ``plan_soon``), then ``try_student`` if ``Plan.adapter`` is set, then the
frontier unless ``Tried.serve``, and ``spawn_shadows`` in every case.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from typing import Any

from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.routing.decision import Decision
from loop_pipeline.routing.router import Router


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked, and why, before anybody is.

    ``adapter`` is asked first, None: the frontier at once. ``shadows`` are the other adapters that
    answer too, for the record only, because the coin of the decision fell so (``shadow``).
    """

    reason: str
    decision: Decision | None = None
    router: Router | None = None
    policy_sha256: str | None = None
    adapter: str | None = None
    shadows: tuple[str, ...] = ()
    shadow: bool = False
    forced: bool = False
    contract: dict[str, Any] | None = None

    @property
    def route(self) -> dict[str, Any]:
        """``route`` of the trace if the frontier answers at once; without ``wire``, times, ids."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of asking a student first.

    ``reply`` is its answer (None: there was none), to be sent only if ``serve``; ``route`` belongs
    to the trace of whatever goes out; ``rows`` are kept beside it.
    """

    serve: bool
    reply: Reply | None
    reason: str
    route: dict[str, Any]
    latency_ms: float = 0.0
    rows: list[Answered] = field(default_factory=list)


class Cascade:
    """The policy applied to live requests; one per worker, used from its event loop only.

    Args:
        students: whom to ask.
        router: gives the router in force, None while there is no good policy.
        holds: gives ids of the groups that a person holds back.
        app: whose traffic the policy speaks of; empty: everybody's.
        tiers: of the hallucination check.
        hide: applied to every text a student is asked.
    """

    def __init__(
        self,
        students: Any,
        *,
        router: Callable[[], Router | None],
        holds: Callable[[], Container[str]] = frozenset,
        app: str = "",
        tiers: Any = None,
        hide: Callable[[str], str] = str,
    ) -> None:
        raise NotImplementedError

    def plan(
        self,
        request: Request,
        prompt_id: str,
        *,
        app: str,
        conversation_id: str | None,
        task: str | None = None,
        force_frontier: bool = False,
    ) -> Plan:
        """Decide, at once."""
        raise NotImplementedError

    async def plan_soon(
        self,
        request: Request,
        prompt_id: str,
        *,
        app: str,
        conversation_id: str | None,
        task: str | None = None,
        force_frontier: bool = False,
    ) -> Plan:
        """The same plan, decided together with all requests of this turn of the event loop."""
        raise NotImplementedError

    async def try_student(
        self, plan: Plan, request: Request, prompt_id: str, client_timeout_s: float | None = None
    ) -> Tried:
        """Ask the student of the plan; never raises but when it is cancelled."""
        raise NotImplementedError

    def spawn_shadows(
        self,
        plan: Plan,
        tried: Tried | None,
        request: Request,
        prompt_id: str,
        *,
        keep: Callable[[Answered], None],
        ask_frontier: Callable[[], Awaitable[Reply]],
    ) -> None:
        """If the coin fell so: ask everybody who was not asked, after or beside the answer.

        Args:
            plan: of the request.
            tried: what came of asking the student, None where nobody did.
            request: as it came.
            prompt_id: of it.
            keep: takes each finished answer (``Capture``), from the event loop.
            ask_frontier: asks it, not streamed; called only if a student's answer went out.
        """
        raise NotImplementedError

    @property
    def shadows_lost(self) -> int:
        """Shadow calls that were drawn and given up, since the start."""
        raise NotImplementedError

    async def close(self, within_s: float = 30.0) -> None:
        """Let shadows that are under way end, or give them up and count them."""
        raise NotImplementedError
