"""Cheaper models as candidates for a group: what each could promise, and what it costs.

Not here: the promise itself (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.confidence.ceiling import with_ceiling
from loop_pipeline.confidence.certificate import CERTIFIED, Certificate
from loop_pipeline.confidence.frontier_twice import FrontierTwice
from loop_pipeline.confidence.relative_certificate import certify_relative
from loop_pipeline.confidence.request_score import RequestScore
from loop_pipeline.confidence.standing_certificate import first_certificate, later_certificate
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.groups.clustering.fit import Group
from loop_pipeline.hashing import plain_numbers
from loop_pipeline.routing.policy import EXPLORATION_RATE, GroupPolicy, Offer
from loop_pipeline.stats.fixed_sequence import first_share

# Begins the reason of an offer of which nobody knows what it saves.
UNPRICED_OFFER = "certified; "


@dataclass(frozen=True)
class Contender:
    """A cheaper model with its answers to held-out requests.

    ``rows`` has the columns prompt_id, split, group_id, agrees (with the frontier's answer) and
    score as the router computes it, NaN for an answer that it would never serve; unit (what a row
    belongs to) and times (how often its request was asked) if they are known; for promises relative
    to the ceiling itself (whether the frontier's second answer agrees with its first).
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
        return own.sort_values("prompt_id", kind="stable")

    def first_share(self, group_id: str, rows: int, *, alpha: float, delta: float) -> float:
        """Share of so many calibration rows at which a walk had better start, by validation."""
        own = self.rows[(self.rows["split"] == "validation") & (self.rows["group_id"] == group_id)]
        own = own[own["score"].notna()]
        score, good = own["score"].to_numpy(float), own["agrees"].to_numpy(bool)
        return first_share(score, good, rows=rows, alpha=alpha, delta=delta)


def expected_usd(contender: Contender, coverage: float, frontier_usd: float | None) -> float | None:
    """What a request costs on average if this model is asked first (USD); None if not known.

    Escalated requests and the shadowed part of the others pay the frontier as well.
    """
    if frontier_usd is None or contender.usd_per_request is None:
        return None
    calls = coverage if contender.calls_for == "accepted" else 1.0
    twice = 1 - coverage * (1 - EXPLORATION_RATE)
    return calls * contender.usd_per_request + twice * frontier_usd


def certify(
    contender: Contender,
    group_id: str,
    *,
    alpha: float,
    share: float,
    earlier: Certificate | None = None,
    margin: float | None = None,
) -> Certificate:
    """What may be promised of one model for one group, by the rows there are now.

    Args:
        contender: the model.
        group_id: of the group.
        alpha: largest share of disagreement.
        share: chance that a first test may spend.
        earlier: what was promised before of the same model and group; None: nothing was tested.
        margin: of a promise relative to the ceiling, which is tested once; None: of ``alpha``.
    """
    rows = contender.calibration(group_id)
    score, agrees = rows["score"].to_numpy(float), rows["agrees"].to_numpy(bool)
    if margin is not None:
        if earlier is not None:
            return Certificate(**{n: getattr(earlier, n) for n in Certificate.model_fields})
        itself, units = rows["itself"].to_numpy(bool), rows["unit"].tolist()
        found = certify_relative(score, agrees, itself, units, margin=margin, delta=share)
        # As a policy will have it: the next fit reads it from there.
        return Certificate.model_validate(plain_numbers(found.model_dump()))
    known = {"unit": rows.get("unit"), "times": rows.get("times")}
    if earlier is not None:
        return later_certificate(earlier, score, agrees, alpha=alpha, **known)
    start = contender.first_share(group_id, len(rows), alpha=alpha, delta=share)
    return first_certificate(score, agrees, alpha=alpha, share=share, start=start, **known)


def make_offer(contender: Contender, certificate: Certificate, frontier_usd: float | None) -> Offer:
    """What a certificate is worth; certified but not cheaper is no offer either."""
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
    fields: dict[str, Any] = {name: getattr(certificate, name) for name in Certificate.model_fields}
    fields["reason"] = reason
    return Offer(model=contender.name, expected_usd_per_request=usd, **fields)


def choose(
    group: Group,
    offers: Sequence[Offer],
    *,
    student: str,
    delta: float,
    frontier_usd: float | None,
) -> GroupPolicy:
    """Send a group to the cheapest certified model, or to the frontier with the reason.

    ``delta`` stands where none of the offers was tested.

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
    certificate = {name: getattr(best, name) for name in Certificate.model_fields}
    return GroupPolicy(
        **group.model_dump(
            include={"group_id", "name", "template_hash", "task", "centroid", "radius", "floor"}
        ),
        **certificate,
        arm="student" if good else "frontier",
        delta=best.share or delta,
        frontier_usd_per_request=frontier_usd,
        expected_usd_per_request=best.expected_usd_per_request if good else frontier_usd,
        model=best.model if good and best.model != student else None,
        offers=list(offers) if len(offers) > 1 else [],
    )


def asked_twice(contender: Contender, twice: FrontierTwice) -> Contender:
    """Its rows for which the frontier has a second answer: a relative promise rests on them."""
    rows = contender.rows[contender.rows["prompt_id"].isin(list(twice.same))]
    rows = rows.assign(itself=rows["prompt_id"].map(twice.same))
    if "unit" not in rows:
        rows = rows.assign(unit=rows["prompt_id"].map(twice.units))
    return replace(contender, rows=rows)


def told(group: GroupPolicy, twice: FrontierTwice, target: float | None) -> GroupPolicy:
    """A group with its ceiling, and a reason that does not blame a student for it."""
    ceiling, reason = twice.ceilings.get(group.group_id), group.reason
    if group.threshold is None and target is not None:
        reason = with_ceiling(reason, ceiling, target)
    return group.model_copy(update={"ceiling": ceiling, "reason": reason})
