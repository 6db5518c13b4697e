"""The policy while no student is good enough: every request goes to the frontier.

Policies with a student are fitted in ``policy_fit``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from loop_pipeline.confidence.answer_score import FEATURES
from loop_pipeline.confidence.answer_score_fit import fit_score
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.routing.offers import choose
from loop_pipeline.routing.policy import Offer, PolicyBundle, seal
from loop_pipeline.routing.policy_seal import seal_of, subject_hash


def frontier_only(
    groups: Groups,
    *,
    reason: str,
    target_agreement: float,
    delta: float,
    frontier: Mapping[str, str],
    costs: Mapping[str, Any],
    versions: Mapping[str, str],
    embedder_path: str,
) -> PolicyBundle:
    """The policy while no student is good enough: every request goes to the frontier.

    It promises nothing and spends nothing of ``delta``: the first student's policy begins as if
    there had been none.

    Args:
        groups: the task groups.
        reason: why no student serves; it stands beside every group.
        target_agreement: as for ``fit_policy``, like the others.
        delta: chance that any promise is ever broken.
        frontier: model and its version.
        costs: ``frontier_usd_per_request`` and ``prices``.
        versions: of what runs.
        embedder_path: where the router finds the embedder.
    """
    student = {"checkpoint_id": "", "adapter": ""}
    usd = costs.get("frontier_usd_per_request", {})
    nobody = Offer(
        model="",
        threshold=None,
        n=0,
        accepted=0,
        errors=0,
        coverage=0.0,
        agreement=None,
        agreement_lower=None,
        reason=reason,
        expected_usd_per_request=None,
    )
    score = fit_score(pd.DataFrame(columns=pd.Index(["prompt_id", *FEATURES, "agrees"])))
    return seal(
        parent=None,
        recalibration=0,
        target_agreement=target_agreement,
        delta=delta,
        student=student,
        frontier=dict(frontier),
        versions=dict(versions),
        subject_hash=subject_hash(student, frontier, versions, groups.embedder_version),
        evidence_hash=seal_of([groups.version, reason]),
        embedder_version=groups.embedder_version,
        embedder_path=embedder_path,
        student_usd_per_request=None,
        score=score,
        groups=[
            choose(group, [nobody], student="", delta=delta, frontier_usd=usd.get(group.group_id))
            for group in sorted(groups.active, key=lambda g: g.group_id)
        ],
        prices=costs.get("prices"),
    )
