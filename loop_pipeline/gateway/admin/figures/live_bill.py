"""The bill of a window of live traffic beside what the frontier alone would have billed.

Not here: the estimate itself (``costs/all_frontier.py``), and reading the store
(``day_totals.py``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, Field

from loop_pipeline.costs.all_frontier import Estimate, Weights, all_frontier
from loop_pipeline.costs.attribution import LOADED_FACTOR
from loop_pipeline.costs.unpriced import unpriced_words
from loop_pipeline.gateway.admin.figures.live_row import Sums, Totals
from loop_pipeline.gateway.admin.figures.twice_answered import Both


@dataclass(frozen=True)
class Rent:
    """What the students' servers cost an hour: each one's sticker price, and how many there are."""

    hourly_usd: float
    servers: int

    @property
    def usd_per_hour(self) -> float:
        """All of them, with what real bills hold besides the sticker price."""
        return self.hourly_usd * self.servers * LOADED_FACTOR


class BillNumbers(BaseModel):
    """What was paid, and what all-frontier would have cost; USD."""

    frontier_usd: float = Field(description="Billed by token: the frontier, shadow calls included.")
    student_usd: float = Field(description="Rent of the students' servers.")
    rent_hours: float = Field(
        description="Hours of rent: from the first student's answer of the month on."
    )
    paid_usd: float
    all_frontier_usd: float | None = Field(description="Estimated. None: no way to estimate it.")
    low_usd: float | None = Field(description="95% interval of the estimate.")
    high_usd: float | None
    saved_share: float | None = Field(description="1 - paid / all-frontier, estimated.")
    saved_low: float | None = Field(description="The same at both ends of the interval.")
    saved_high: float | None
    student_per_hour: float | None = Field(
        None, description="Requests an hour of rent that a student was asked."
    )
    break_even_per_hour: float | None = Field(
        None, description="From how many on what is saved pays the rent, estimated."
    )
    why: str = Field(description="What the estimate rests on, or why there is none.")
    unpriced: dict[str, int] = Field(
        {}, description="Answers whose cost is not known, by model; they are in no sum."
    )


def bill(
    window: Totals,
    both: Iterable[Both],
    measured: Sequence[Both],
    *,
    weights: Weights,
    rent: Rent,
    rented_from: dt.datetime | None,
    now: dt.datetime,
) -> BillNumbers:
    """The bill of a window.

    Args:
        window: what it holds, by kind of request.
        both: requests of the window that both answered and the student's answer went out.
        measured: such requests, also from outside the window: the ratio is measured on them.
        weights: of tokens.
        rent: of the students' servers.
        rented_from: since when the rent counts for this window; None: no student has answered.
        now: the end of the window.
    """
    own = [b for b in both if b.frontier_usd is not None]
    served, asked = _sum(window, ("student",)), _sum(window, ("escalated", "frontier"))
    everything = _sum(window, ("student", "escalated", "frontier", "beside"))
    known = sum(weights.of(b.tokens_in, b.tokens_out) for b in own)
    # Shadow calls for served answers are the frontier's price of these; others cost on top.
    found = all_frontier(
        billed_usd=asked.usd + sum(b.frontier_usd or 0.0 for b in own),
        pairs=[
            (weights.of(b.tokens_in, b.tokens_out), b.frontier_usd)
            for b in measured
            if b.frontier_usd is not None
        ],
        rest=max(0.0, weights.of(served.tokens_in, served.tokens_out) - known),
        rest_requests=max(0, served.requests - len(own)),
        weights=weights,
    )
    hours = max(0.0, (now - rented_from).total_seconds() / 3600) if rented_from else 0.0
    paid = everything.usd + hours * rent.usd_per_hour
    if everything.unpriced:
        # What is paid is at least this, so nothing can be said of what is saved.
        why = unpriced_words(everything.unpriced, everything.requests)
        found = Estimate(None, None, None, found.pairs, why)
    called = _sum(window, ("student", "escalated")).requests
    saved_usd = (found.usd or 0.0) - everything.usd
    return BillNumbers(
        frontier_usd=everything.usd,
        student_usd=hours * rent.usd_per_hour,
        rent_hours=hours,
        paid_usd=paid,
        all_frontier_usd=found.usd,
        low_usd=found.low,
        high_usd=found.high,
        student_per_hour=called / hours if hours else None,
        break_even_per_hour=(
            rent.usd_per_hour * called / saved_usd if saved_usd > 0 and called else None
        ),
        saved_share=_saved(paid, found.usd),
        saved_low=_saved(paid, found.low),
        saved_high=_saved(paid, found.high),
        why=found.why,
        unpriced=everything.unpriced,
    )


def _sum(totals: Totals, lanes: tuple[str, ...]) -> Sums:
    found = Sums()
    for key, sums in totals.items():
        if key.lane in lanes:
            found.add(sums)
    return found


def _saved(paid: float, alone: float | None) -> float | None:
    return 1 - paid / alone if alone else None
