"""Decides on all requests of one turn of the event loop together: their texts embed faster so.

Not here: deciding (``routing/router.py``).
"""

from __future__ import annotations

import asyncio

from loop_pipeline.routing.decision import Asked, Decision
from loop_pipeline.routing.router import Router


class TurnBatch:
    """Collects what arrives in one turn, without a timer: a lone request waits for nobody."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Router, Asked, asyncio.Future[Decision]]] = []

    async def decide(self, router: Router, asked: Asked) -> Decision:
        """What ``router.decide`` says, a turn later."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        future: asyncio.Future[Decision] = loop.create_future()
        self._waiting.append((router, asked, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        by_router: dict[int, list[tuple[Router, Asked, asyncio.Future[Decision]]]] = {}
        for one in waiting:
            # A new policy may come into force within a turn.
            by_router.setdefault(id(one[0]), []).append(one)
        for own in by_router.values():
            _decide(own)


def _decide(own: list[tuple[Router, Asked, asyncio.Future[Decision]]]) -> None:
    try:
        decisions = own[0][0].decide_many([asked for _, asked, _ in own])
    except Exception as error:  # noqa: BLE001  handed to whoever waits
        for _, _, future in own:
            if not future.done():
                future.set_exception(error)
        return
    for (_, _, future), decision in zip(own, decisions, strict=True):
        if not future.done():  # a client may have left meanwhile
            future.set_result(decision)
