"""Which earlier certificate speaks about the same model, score and group as one that is fitted now.

Not here: what becomes of it (``confidence/standing_certificate.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.groups.clustering.fit import Group, Groups
from loop_pipeline.hashing import plain_numbers, seal_of
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import GroupPolicy, Offer, PolicyBundle

WHERE = ("group_id", "template_hash", "centroid", "radius", "floor")


def score_in_use(
    known: Sequence[PolicyBundle], student: Mapping[str, str], versions: Mapping[str, str]
) -> ScoreWeights | None:
    """The score of this student as an earlier policy has it; None: it is new, or runs differently.

    A certificate is about a score: fitted anew on more rows it would be another one.
    """
    same = (b for b in known if b.student == dict(student) and b.versions == dict(versions))
    return next((bundle.score for bundle in same), None)


def subject_of(contender: Contender, group: Group, facts: Sequence[Any]) -> str:
    """Names all that a certificate speaks about: the model and its score, the group, what runs.

    Args:
        contender: the model.
        group: the task group.
        facts: what else voids a certificate, and what is promised.
    """
    of_model = [contender.name, contender.version, contender.score.model_dump()]
    of_group = [getattr(group, name) for name in WHERE]
    return seal_of(plain_numbers([of_model, of_group, list(facts)]))


def earlier_offers(known: Iterable[PolicyBundle]) -> dict[str, Offer]:
    """Offers of earlier policies by their subject; of one subject that of the first policy."""
    found: dict[str, Offer] = {}
    for bundle in known:
        for group in bundle.groups:
            for offer in group.offers or [_only(group, bundle.student["adapter"])]:
                if offer.subject:
                    found.setdefault(offer.subject, offer)
    return found


def _only(group: GroupPolicy, student: str) -> Offer:
    fields = {name: getattr(group, name) for name in Offer.model_fields if name != "model"}
    return Offer(model=group.model or student, **fields)


def promise_of(target_agreement: float, delta: float, margin: float | None) -> list[Any]:
    """What is promised, as far as it names evidence."""
    return [target_agreement, delta] if margin is None else ["less", margin, delta]


def rows_hash(contenders: Sequence[Contender], groups: Groups, parts: list[Any]) -> str:
    """Names the evidence of a fit: the same rows in any order have the same name."""
    columns = ["prompt_id", "split", "group_id", "agrees", "score", "unit", "times", "itself"]
    lines = [
        [[str(value) for value in row] for row in ordered.itertuples(index=False)]
        for ordered in (
            c.rows.sort_values("prompt_id", kind="stable").filter(columns) for c in contenders
        )
    ]
    return seal_of([groups.version, lines, parts])
