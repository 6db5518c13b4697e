"""Asks a student first where the policy says so, and decides whether its answer goes out.

Not here: the frontier (``http``), the student's servers (``students.py``), what makes an answer fit
to be served (``asking/served_answer.py``), and wire formats.

One request: ``plan``, then ``try_student`` if ``Plan.adapter`` is set, then the
frontier unless ``Tried.serve``, and ``spawn_shadows`` in every case.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from loop_pipeline.gateway.asking.answer_forms import AnswerForms
from loop_pipeline.gateway.asking.hidden_values import Hide, Values, as_it_is, hidden
from loop_pipeline.gateway.asking.request_plan import (
    AGAIN,
    Answered,
    Plan,
    Tried,
    doubt,
    route_of,
    tried_of,
)
from loop_pipeline.gateway.asking.served_answer import judged
from loop_pipeline.gateway.asking.shadows import Shadows, within
from loop_pipeline.gateway.asking.turn_batch import TurnBatch
from loop_pipeline.gateway.formats.exchange import Reply, Request
from loop_pipeline.gateway.students import NoAnswer, Students
from loop_pipeline.labels.hallucination.habits.wording_habit import Habit
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.routing.decision import Asked, Decision, shadowed_at
from loop_pipeline.routing.router import Router
from loop_pipeline.serving.student_answer import Answer
from loop_pipeline.stats.sampling import coin

# The model a client names if it leaves the choice to the policy.
AUTO = "auto"

__all__ = ["Answered", "Cascade", "Plan", "Tried"]


class Cascade:
    """The policy applied to live requests; one per worker, used from its event loop only.

    Args:
        students: whom to ask.
        router: gives the router in force, None while there is no good policy.
        holds: gives ids of the groups that are held back.
        shadow_rates: gives the share of a group's requests that everybody answers, by its id, where
            that is more than the policy says.
        app: whose traffic the policy speaks of; empty: what the policy itself says.
        tiers: of the hallucination check; None: as the package ships them.
        habits: gives what the daily step learned of templates' answers, by template hash.
        contract_of: gives the contract of an app's task, for requests that bring none.
        hide: applied to every text a student is asked.
        again_rate: share of shadowed requests that the frontier is asked twice.
    """

    def __init__(
        self,
        students: Students,
        *,
        router: Callable[[], Router | None],
        holds: Callable[[], Container[str]] = frozenset,
        shadow_rates: Callable[[], Mapping[str, float]] = dict,
        app: str = "",
        tiers: Tiers | None = None,
        habits: Callable[[], Mapping[str, Habit]] = dict,
        contract_of: Callable[[str, str], Mapping[str, Any] | None] = lambda _app, _task: None,
        hide: Hide = as_it_is,
        again_rate: float = 0.0,
    ) -> None:
        self._students, self._router, self._holds, self._app = students, router, holds, app
        self._shadow_rates = shadow_rates
        # A classifier in a process of its own (T2) is nothing to wait for.
        self._tiers = Tiers((tiers or Tiers()).detector)
        self._contract_of, self._hide = contract_of, hide
        self._batch, self._forms = TurnBatch(), AnswerForms(habits)
        self._shadows, self._again_rate = Shadows(students), again_rate

    async def plan(
        self,
        request: Request,
        prompt_id: str,
        *,
        app: str,
        conversation_id: str | None,
        task: str | None = None,
        force_frontier: bool = False,
    ) -> Plan:
        """Decide, together with all requests of this turn of the event loop.

        Never raises: every doubt is the frontier's, with its reason.
        """
        known = self._before(request, app, task, force=force_frontier)
        if known.router is None:
            return known
        asked = Asked(known.messages, prompt_id, None, conversation_id, app)
        try:
            decision = await self._batch.decide(known.router, asked)
            return self._planned(known, decision, app, prompt_id)
        except Exception as error:  # noqa: BLE001  a router that raises must not lose the request
            return doubt(known, error)

    def _before(self, request: Request, app: str, task: str | None, *, force: bool) -> Plan:
        """The plan as far as it is known without a decision; with a router if one is due."""
        if force:
            return Plan("the request asks for the frontier", forced=True)
        known = Plan("")
        try:
            contract = request.contract or self._contract(app, task)
            router = self._router()
            if router is None:
                return Plan("there is no policy in force", contract=contract)
            policy = router.bundle.sha256
            known = Plan("", policy_sha256=policy, contract=contract)
            if (why := self._beyond(router, request, app)) is not None:
                return replace(known, reason=why)
            values: Values = {}
            messages = hidden(request.messages, self._hide, values)
            own = None if self._hide is as_it_is else values
            return replace(known, router=router, messages=messages, values=own)
        except Exception as error:  # noqa: BLE001  see plan
            return doubt(known, error)

    def _beyond(self, router: Router, request: Request, app: str) -> str | None:
        """Why the policy says nothing about a request; None if it does."""
        if request.frontier_only is not None:
            return f"no student may be asked: {request.frontier_only}"
        frontier = router.bundle.frontier.get("model", "")
        if request.model not in (AUTO, frontier):
            return f"the policy speaks of {frontier!r}, not of {request.model!r:.80}"
        own = self._app or router.bundle.app
        if own and app != own:
            return f"the policy speaks of the app {own!r}, not of {app!r:.80}"
        return None

    def _contract(self, app: str, task: str | None) -> dict[str, Any] | None:
        return dict((self._contract_of(app, task) if task else None) or {}) or None

    def _planned(self, known: Plan, decision: Decision, app: str, prompt_id: str) -> Plan:
        contract = known.contract
        if contract is None and known.router is not None:
            contract = self._contract(app, known.router.task_of(decision.group_id))
        if decision.group_id is not None and decision.group_id in self._holds():
            held = f"group {decision.group_id} is held back until it is released"
            none = {"arm": "frontier", "adapter": None, "canary": False, "score": None}
            decision = replace(decision, **none, reason=held)
        decision = shadowed_at(decision, self._shadow_rates(), prompt_id)
        adapters = known.router.adapters if known.router and decision.shadow else ()
        return replace(
            known,
            reason=decision.reason,
            decision=decision,
            contract=contract,
            adapter=decision.adapter if decision.arm == "student" else None,
            shadows=tuple(name for name in adapters if name != decision.adapter),
            shadow=decision.shadow,
        )

    async def try_student(
        self, plan: Plan, request: Request, prompt_id: str, client_timeout_s: float | None = None
    ) -> Tried:
        """Ask the student of the plan; never raises but when it is cancelled.

        Args:
            plan: of the request.
            request: as it came.
            prompt_id: of it.
            client_timeout_s: how long the client waits, as far as it says so.
        """
        if plan.adapter is None:
            return Tried(False, None, plan.reason, plan.route)
        start = time.perf_counter()
        late: asyncio.Task[Answer] | None = None
        try:
            limit = self._students.patience.limit(plan.adapter, client_timeout_s)
            if plan.shadow:
                late = self._shadows.call(plan, plan.adapter)
                answer = await within(late, limit.seconds)
            else:
                answer = await self._students.answer(plan.adapter, plan.messages, limit, plan.trace)
            verdict = judged(plan, request, answer, self._tiers, self._forms)
        except NoAnswer as error:
            route = route_of(plan, "frontier", failed=str(error))
            waits = late if late is not None and not late.done() else None
            return Tried(False, None, str(error), route, _ms(start), late=waits)
        except Exception as error:  # noqa: BLE001  see plan
            said = f"the cascade failed: {error!r:.200}"
            return Tried(False, None, said, route_of(plan, "frontier", failed=said), _ms(start))
        return tried_of(plan, prompt_id, answer, verdict, _ms(start))

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
            ask_frontier: asks it, not streamed; called if a student's answer went out, and once
                more where a second coin asks for the frontier's agreement with itself.
        """
        if not plan.shadow:
            return
        for adapter in plan.shadows:
            self._shadows.adapter(plan, prompt_id, adapter, keep)
        if coin(AGAIN, prompt_id) < self._again_rate:
            self._shadows.frontier(plan, prompt_id, ask_frontier, keep, again=True)
        if tried is None or plan.adapter is None:
            return
        if tried.late is not None:
            self._shadows.late(plan, prompt_id, plan.adapter, tried.late, keep)
        if tried.serve:
            self._shadows.frontier(plan, prompt_id, ask_frontier, keep)

    @property
    def shadows_kept(self) -> int:
        """Answers for the record that came, since the start."""
        return self._shadows.kept

    @property
    def shadows_lost_why(self) -> Counter[str]:
        """Shadow calls that were drawn and given up since the start, by reason."""
        return self._shadows.lost

    async def close(self, within_s: float = 30.0) -> None:
        """Let shadows that are under way end, or give them up and count them."""
        await self._shadows.close(within_s)


def _ms(start: float) -> float:
    return 1000 * (time.perf_counter() - start)
