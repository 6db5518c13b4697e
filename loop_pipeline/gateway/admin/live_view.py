"""What the page shows now: the spool is looked at whenever somebody asks, the store now and then.

Not here: the figures themselves (``figures``).

While nobody looks nothing is read. Counting a large store takes seconds; it is done in a thread of
its own, and the page shows the last count until it is done.
"""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from loop_pipeline.costs.prices import LIST_PRICES, Prices
from loop_pipeline.gateway.admin.figures.day_totals import DayTotals, StoreView
from loop_pipeline.gateway.admin.figures.live_bill import Rent
from loop_pipeline.gateway.admin.figures.live_numbers import Known, live_numbers
from loop_pipeline.gateway.admin.figures.page_fields import LiveNumbers
from loop_pipeline.gateway.admin.one_request import one_request, stored_request
from loop_pipeline.gateway.admin.page_feedback import write_feedback
from loop_pipeline.gateway.admin.spool_tail import Backlog, SpoolTail
from loop_pipeline.gateway.trace_row import as_it_is, hidden_row
from loop_pipeline.masking import masked
from loop_pipeline.routing.policy import BadBundle, PolicyBundle, load_bundle
from loop_pipeline.store.upgrade import StoreError

# Between two counts: so many seconds, or so many times as long as the last one took.
COUNT_SECONDS = 3.0
COUNT_SHARE = 10.0
# The first to ask waits so long for the first count.
FIRST_WAIT_SECONDS = 2.0
# Between two looks at the spool.
LOOK_SECONDS = 0.4


class LiveView:
    """Answers the page's questions from the spool, the store and the gateway's files."""

    def __init__(
        self,
        home: Path,
        open_store: Callable[[], Engine],
        rent: Rent,
        hide: Callable[[str], str] = as_it_is,
        prices: Prices = LIST_PRICES,
    ) -> None:
        """Nothing is opened yet.

        Args:
            home: the loop's home folder, with the spool and the gateway's files.
            open_store: opens the store; called again for as long as it fails.
            rent: of the students' servers.
            hide: takes personal data out of feedback that is written down.
            prices: what the frontier's tokens weigh.
        """
        self._hide, self._prices = hide, prices
        self._spool = home / "spool"
        self._files, self._open_store, self._rent = home / "gateway", open_store, rent
        self._tail = SpoolTail(self._spool)
        self._lock = threading.Lock()
        self._backlog, self._looked = Backlog(0, 0, None, 0), 0.0
        self._engine: Engine | None = None
        self._days, self._view = DayTotals(), None
        self._counting: threading.Thread | None = None
        self._count_due, self._store_problem = 0.0, None
        self._bundle: tuple[float, PolicyBundle | None, str | None] = (-1.0, None, None)

    _view: StoreView | None
    _store_problem: str | None

    def numbers(self, viewer: str) -> LiveNumbers:
        """Every figure of the page."""
        self._look()
        self._count_if_due()
        bundle, problem = self._policy()
        with self._lock:
            newest = [*(self._view.newest if self._view else []), *self._tail.newest()]
            known = Known(
                now=dt.datetime.now(dt.UTC),
                viewer=viewer,
                bundle=bundle,
                rent=self._rent,
                prices=self._prices,
                view=self._view,
                backlog=self._backlog,
                pending=self._tail.pending(),
                newest=newest,
                holds=self._holds(),
                problems=[p for p in (problem, self._store_problem) if p],
            )
            return live_numbers(known)

    def request(self, prompt_id: str) -> dict[str, Any] | None:
        """One request in full; None if neither spool nor store knows it."""
        self._look()
        bundle = self._policy()[0]
        with self._lock:
            own = self._tail.trace(prompt_id)
            traces: list[Mapping[str, Any]] = [own, *self._tail.besides(prompt_id)] if own else []
            feedback: list[Mapping[str, Any]] = [*self._tail.feedback(prompt_id)]
        flag = None
        try:
            stored, said, flag = stored_request(self._store(), prompt_id, _models(bundle))
        except (SQLAlchemyError, StoreError) as error:
            self._store_problem = _words(error)
        else:
            known = {str(row["prompt_id"]) for row in traces}
            traces += [row for row in stored if row["prompt_id"] not in known]
            feedback += said
        traces.sort(key=lambda row: str(row["prompt_id"]))
        if not traces or traces[0]["prompt_id"] != prompt_id:
            return None
        names = {g.group_id: g.name for g in bundle.groups} if bundle else {}
        return one_request(traces, feedback=feedback, flag=flag, groups=names)

    def note(self, row: dict[str, Any]) -> None:
        """Write feedback down, and look at the spool again when next asked."""
        write_feedback(self._spool, hidden_row(row, self._hide))
        self._looked = 0.0

    def _look(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_SECONDS:
                self._backlog = self._tail.look()
                self._looked = time.monotonic()

    def _count_if_due(self) -> None:
        first = self._view is None and self._store_problem is None
        with self._lock:
            busy = self._counting is not None and self._counting.is_alive()
            if not busy and time.monotonic() >= self._count_due:
                self._counting = threading.Thread(target=self._count, name="count", daemon=True)
                self._counting.start()
            running = self._counting
        if first and running:
            running.join(FIRST_WAIT_SECONDS)

    def _count(self) -> None:
        with self._lock:
            asked = [b.last_id for b in self._tail.blocks if b.last_id]
        began = time.monotonic()
        try:
            view = self._days.view(self._store(), asked, dt.datetime.now(dt.UTC))
        except (SQLAlchemyError, StoreError) as error:
            self._store_problem = _words(error)
        else:
            with self._lock:
                self._view, self._store_problem = view, None
                self._tail.in_store(view.found_ids)
        finally:
            took = time.monotonic() - began
            self._count_due = time.monotonic() + max(COUNT_SECONDS, COUNT_SHARE * took)

    def _store(self) -> Engine:
        if self._engine is None:
            self._engine = self._open_store()
        return self._engine

    def _policy(self) -> tuple[PolicyBundle | None, str | None]:
        """The policy in force as the workers have it, and what is wrong with it."""
        path = self._files / "policy.json"
        try:
            changed, text = path.stat().st_mtime, path.read_text("utf-8")
        except FileNotFoundError:
            return None, None
        if changed != self._bundle[0]:
            try:
                # An empty file: there is no policy in force.
                self._bundle = (changed, load_bundle(text) if text.strip() else None, None)
            except BadBundle as error:
                self._bundle = (changed, None, str(error))
        return self._bundle[1], self._bundle[2]

    def _holds(self) -> Sequence[Mapping[str, Any]]:
        """Groups that are held: as the workers have it, with the reasons that the store knows."""
        known = {row["group_id"]: row for row in (self._view.holds if self._view else [])}
        try:
            held = json.loads((self._files / "holds.json").read_text("utf-8"))["groups"]
        except FileNotFoundError:
            return list(known.values())
        return [known.get(group_id, {"group_id": group_id}) for group_id in held]


def _models(bundle: PolicyBundle | None) -> list[str]:
    return [model.name for model in bundle.others] if bundle else []


def _words(error: Exception) -> str:
    # What a driver says has many lines, and may have the address with the password.
    first = next(iter(str(error).splitlines()), "")
    return masked(f"The store cannot be read, so only the spool is shown: {first}")
