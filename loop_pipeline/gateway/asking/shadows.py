"""Answers for the record only: they outlive the request, and those given up are counted.

Not here: who is drawn (``routing``), and what the answers prove (``calibration_rows.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from loop_pipeline.gateway.asking.patience import Limit
from loop_pipeline.gateway.asking.request_plan import Answered, Plan, Verdict, beside, reply_of
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.students import NoAnswer, Students
from loop_pipeline.serving.student_answer import Answer

log = logging.getLogger(__name__)

Keep = Callable[[Answered], None]

# Nobody waits for them, but a server has better things to do.
SHADOW_S = 60.0
# The frontier streams for minutes where a student never would.
FRONTIER_S = 300.0
# At once in one worker. More means that the students are too slow for the share that is drawn.
AT_ONCE = 256


class Shadows:
    """Calls of one worker that go on beside the requests, or after them."""

    def __init__(self, students: Students) -> None:
        self._students = students
        self._tasks: set[asyncio.Task[Any]] = set()
        self.kept = 0
        self.lost: Counter[str] = Counter()

    def call(self, plan: Plan, adapter: str) -> asyncio.Task[Answer]:
        """Ask a student without a hurry. Whoever waits for it may stop waiting."""
        return self._task(self._answer(plan, adapter))

    def adapter(self, plan: Plan, prompt_id: str, adapter: str, keep: Keep) -> None:
        """Ask another student and keep its answer."""
        if self._room():
            self._keep_from(plan, prompt_id, adapter, partial(self._answer, plan, adapter), keep)

    def late(
        self, plan: Plan, prompt_id: str, adapter: str, call: asyncio.Task[Answer], keep: Keep
    ) -> None:
        """Keep the answer of a call that is under way."""

        async def under_way() -> Answer:
            return await call

        self._keep_from(plan, prompt_id, adapter, under_way, keep)

    def _keep_from(
        self,
        plan: Plan,
        prompt_id: str,
        adapter: str,
        ask: Callable[[], Awaitable[Answer]],
        keep: Keep,
    ) -> None:
        async def run() -> Answered:
            answer = await ask()
            reply = reply_of(answer, adapter)
            verdict = Verdict("escalate", "too late") if adapter == plan.adapter else None
            return beside(plan, prompt_id, adapter, reply, answer.latency_ms, verdict)

        self._task(self._kept(run, keep))

    def frontier(
        self,
        plan: Plan,
        prompt_id: str,
        ask: Callable[[], Awaitable[Reply]],
        keep: Keep,
        *,
        again: bool = False,
    ) -> None:
        """Ask the frontier what it would have said, or ``again`` what it says a second time."""

        async def run() -> Answered:
            start = time.perf_counter()
            async with asyncio.timeout(FRONTIER_S):
                reply = await ask()
            took = 1000 * (time.perf_counter() - start)
            return beside(plan, prompt_id, None, reply, took, again=again)

        if self._room():
            self._task(self._kept(run, keep))

    async def close(self, within_s: float) -> None:
        """Wait for what is under way; what takes longer is given up and counted."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _kept(self, answer: Callable[[], Awaitable[Answered]], keep: Keep) -> None:
        try:
            keep(await answer())
        except asyncio.CancelledError:
            self.lost["shutdown"] += 1
            raise
        except Exception as error:  # noqa: BLE001  nobody is left to be told but the counter
            self.lost["no answer" if isinstance(error, NoAnswer) else type(error).__name__] += 1
            log.info("a shadow call came to nothing: %s", f"{error!r:.200}")
        else:
            self.kept += 1

    async def _answer(self, plan: Plan, adapter: str) -> Answer:
        return await self._students.answer(adapter, plan.messages, Limit(SHADOW_S), plan.trace)

    def _room(self) -> bool:
        if len(self._tasks) < AT_ONCE:
            return True
        self.lost["too many at once"] += 1
        return False

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it, or has left


async def within(call: asyncio.Task[Answer], seconds: float) -> Answer:
    """The answer of a call that goes on if it is not waited for any longer."""
    try:
        await asyncio.wait({call}, timeout=seconds)
    except asyncio.CancelledError:
        call.cancel()  # the client left: nothing of its request teaches
        raise
    if not call.done():
        raise NoAnswer(f"the student did not answer within {seconds:.3g} s")
    return call.result()
