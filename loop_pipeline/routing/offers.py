"""Cheaper models as candidates for a group: what each could promise, and what it costs.

Not here: the promise itself (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.confidence.certificate import certify_group
from loop_pipeline.confidence.relative_certificate import certify_relative
from loop_pipeline.confidence.request_score import RequestScore
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.groups.clustering.fit import Group
from loop_pipeline.routing.policy import EXPLORATION_RATE, GroupPolicy, Offer

CERTIFIED = "certified"
# Begins the reason of an offer of which nobody knows what it saves.
UNPRICED_OFFER = "certified; "


@dataclass(frozen=True)
class Contender:
    """A cheaper model with its answers to held-out requests.

    ``rows`` has the columns prompt_id, split, group_id, agrees (with the frontier's answer) and
    score as the router computes it, NaN for an answer that it would never serve; for promises
    relative to the ceiling also itself (whether the frontier's second answer agrees with its first)
    and unit, and then only rows that have them.
    """

    name: str
    version: str
    usd_per_request: float | None
    score: ScoreWeights | RequestScore
    rows: pd.DataFrame

    @property
    def calls_for(self) -> str:
        """Which requests pay for a call: those it is ``accepted`` for, or ``all`` of a group."""
        return "accepted" if isinstance(self.score, RequestScore) else "all"

    def calibration(self, group_id: str) -> pd.DataFrame:
        """The rows that a certificate of this group may rest on, in a fixed order."""
        rows = self.rows
        own = rows[(rows["split"] == "calibration") & (rows["group_id"] == group_id)]
        return own.sort_values("prompt_id")


def expected_usd(contender: Contender, coverage: float, frontier_usd: float | None) -> float | None:
    """What a request costs on average if this model is asked first (USD); None if not known.

    Escalated requests and the shadowed part of the others pay the frontier as well.
    """
    if frontier_usd is None or contender.usd_per_request is None:
        return None
    calls = coverage if contender.calls_for == "accepted" else 1.0
    twice = 1 - coverage * (1 - EXPLORATION_RATE)
    return calls * contender.usd_per_request + twice * frontier_usd


def make_offer(
    contender: Contender,
    group_id: str,
    *,
    alpha: float,
    delta: float,
    frontier_usd: float | None,
    margin: float | None = None,
) -> Offer:
    """Certify one model for one group; certified but not cheaper is no offer either.

    With a margin the promise is relative to the ceiling, and ``alpha`` is not looked at.
    """
    rows = contender.calibration(group_id)
    score, agrees, least = rows["score"].to_numpy(float), rows["agrees"].to_numpy(bool), None
    if margin is None:
        certificate = certify_group(score, agrees, alpha, delta)
    else:
        itself, units = rows["itself"].to_numpy(bool), rows["unit"].tolist()
        certificate, least = certify_relative(
            score, agrees, itself, units, margin=margin, delta=delta
        )
    usd, reason = expected_usd(contender, certificate.coverage, frontier_usd), certificate.reason
    dear = usd is not None and frontier_usd is not None and usd >= frontier_usd
    if certificate.threshold is not None and dear:
        reason = (
            f"certified, but {contender.name} would cost {usd:.6f} USD a request, "
            f"the frontier costs {frontier_usd:.6f}"
        )
    elif certificate.threshold is not None and usd is None:
        who = "the frontier" if frontier_usd is None else contender.name
        reason = f"{UNPRICED_OFFER}{who} is {UNPRICED}"
    return Offer(
        model=contender.name,
        **certificate.model_dump(exclude={"reason"}),
        expected_usd_per_request=usd,
        reason=reason,
        least=least,
    )


def choose(
    group: Group,
    offers: Sequence[Offer],
    *,
    student: str,
    delta: float,
    frontier_usd: float | None,
) -> GroupPolicy:
    """Send a group to the cheapest certified model, or to the frontier with the reason.

    The choice is safe because ``delta`` is shared over all offers of all groups: the certificates
    hold at once, whichever is taken. Without prices the widest certificate wins: what is unpriced
    is not free, so a student is not kept out because of it, and the reason says so.
    """
    good = [o for o in offers if o.reason == CERTIFIED or o.reason.startswith(UNPRICED_OFFER)]

    def rank(offer: Offer) -> tuple[float, float, str]:
        usd = offer.expected_usd_per_request
        return (float("inf") if usd is None else usd, -offer.coverage, offer.model)

    # Of refused offers the one nearest to a certificate is told.
    best = min(good, key=rank) if good else min(offers, key=lambda o: (-o.coverage, -o.n, o.model))
    certificate = best.model_dump(exclude={"model", "expected_usd_per_request"})
    return GroupPolicy(
        **group.model_dump(
            include={"group_id", "name", "template_hash", "task", "centroid", "radius", "floor"}
        ),
        **certificate,
        arm="student" if good else "frontier",
        delta=delta,
        frontier_usd_per_request=frontier_usd,
        expected_usd_per_request=best.expected_usd_per_request if good else frontier_usd,
        model=best.model if good and best.model != student else None,
        offers=list(offers) if len(offers) > 1 else [],
    )
