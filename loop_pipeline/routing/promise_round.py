"""The tests of one fit: which promises are new, which stay, and what chance each may spend.

Not here: the promise of one group (``confidence/standing_certificate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loop_pipeline.confidence.certificate import Certificate, shared_delta
from loop_pipeline.confidence.relative_certificate import rows_needed
from loop_pipeline.confidence.standing_certificate import needed
from loop_pipeline.groups.clustering.fit import Group, Groups
from loop_pipeline.routing import standing
from loop_pipeline.routing.offers import (
    Contender,
    certify,
)
from loop_pipeline.routing.policy import Offer, PolicyBundle


class NotEnoughRows(ValueError):
    """No group has the calibration rows any promise needs; the active policy stays."""


def _enough(sizes: Sequence[int], groups: Groups, need: int, asked: str) -> None:
    """Raise if no group has the rows that a promise would take if it were alone."""
    most = max(sizes, default=0)
    if most < need:
        raise NotEnoughRows(
            f"{len(groups.active)} task groups, the largest has {most} calibration rows and needs "
            f"at least {need}; {need - most} more distinct held-out requests answered by the "
            f"frontier{asked} are missing"
        )


@dataclass(frozen=True)
class PromiseRound:
    """The tests of one fit: what was promised before, and what a new test may spend."""

    alpha: float
    margin: float | None
    facts: list[Any]
    held: Mapping[str, str]
    earlier: dict[str, Offer]
    number: int
    share: float

    def subject(self, contender: Contender, group: Group) -> str:
        """What a certificate of this model and group speaks about."""
        facts = [*self.facts, self.held.get(group.group_id)]
        return standing.subject_of(contender, group, facts)

    def certificate(self, contender: Contender, group: Group) -> Certificate:
        """What may be promised of a model for a group, and what it speaks about."""
        subject = self.subject(contender, group)
        found = certify(
            contender,
            group.group_id,
            alpha=self.alpha,
            share=self.share,
            earlier=self.earlier.get(subject),
            margin=self.margin,
        )
        if found.share and not found.subject:
            found = found.model_copy(update={"subject": subject, "round": self.number})
        return found


def new_round(
    contenders: Sequence[Contender],
    groups: Groups,
    known: Sequence[PolicyBundle],
    facts: list[Any],
    held: Mapping[str, str],
    *,
    number: int,
    target_agreement: float,
    delta: float,
    margin: float | None,
) -> PromiseRound:
    """Which tests are new, and what chance each of them gets."""
    alpha = round(1 - target_agreement, 12)
    facts = [*facts, *standing.promise_of(target_agreement, delta, margin)]
    sizes = [len(c.calibration(g.group_id)) for c in contenders for g in groups.active]
    alone = shared_delta(delta, 1, 1)
    need = needed(alpha, alone) if margin is None else rows_needed(margin, alone)
    _enough(sizes, groups, need, "" if margin is None else " twice")
    tests = PromiseRound(alpha, margin, facts, held, standing.earlier_offers(known), number, 0.0)
    new = sum(
        tests.subject(c, g) not in tests.earlier and len(c.calibration(g.group_id)) >= need
        for c in contenders
        for g in groups.active
    )
    return replace(tests, share=shared_delta(delta, new, number))
