"""From the student's answers on held-out requests to a policy bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from loop_pipeline.groups.clustering import Group, Groups
from loop_pipeline.labels.threshold import smallest_certifiable
from loop_pipeline.routing.certificate import certify_group, lower_bound, shared_delta
from loop_pipeline.routing.policy import (
    EXPLORATION_RATE,
    GroupPolicy,
    PolicyBundle,
    digest,
    seal,
    subject_hash,
)
from loop_pipeline.routing.score import FEATURES, ScoreWeights, fit_score, scores


class NotEnoughRows(ValueError):
    """No group has the calibration rows any promise needs; the active policy stays."""


def _group_policy(
    group: Group,
    rows: pd.DataFrame,
    score: ScoreWeights,
    *,
    alpha: float,
    delta: float,
    frontier_usd: float | None,
    student_usd: float | None,
) -> GroupPolicy:
    """Certify one group and send it to the student if that is also cheaper."""
    certificate = certify_group(
        scores(score, rows), rows["agrees"].to_numpy(dtype=bool), alpha, delta
    )
    arm, expected = "frontier", frontier_usd
    reason = certificate.reason
    if certificate.threshold is not None:
        arm = "student"
        if frontier_usd is not None and student_usd is not None:
            # Every request pays the student; escalated and shadowed ones pay the frontier too.
            twice = 1 - certificate.coverage * (1 - EXPLORATION_RATE)
            cascade = student_usd + twice * frontier_usd
            if cascade < frontier_usd:
                expected = cascade
            else:
                arm = "frontier"
                reason = (
                    f"certified, but the student would cost {cascade:.6f} USD a request, "
                    f"the frontier costs {frontier_usd:.6f}"
                )
        else:
            expected = None
    return GroupPolicy(
        **group.model_dump(
            include={"group_id", "name", "template_hash", "task", "centroid", "radius"}
        ),
        **certificate.model_dump(exclude={"reason"}),
        arm=arm,
        delta=delta,
        frontier_usd_per_request=frontier_usd,
        expected_usd_per_request=expected,
        reason=reason,
    )


def _testable(calibration: pd.DataFrame, groups: Groups, alpha: float, delta: float) -> int:
    """How many groups share delta: those with rows enough for a promise if they were alone."""
    per_group = calibration["group_id"].value_counts()
    sizes = [int(per_group.get(g.group_id, 0)) for g in groups.active]
    need, most = smallest_certifiable(alpha, shared_delta(delta, 1, 1)), max(sizes, default=0)
    if most < need:
        raise NotEnoughRows(
            f"{len(sizes)} task groups, the largest has {most} calibration rows and needs at least "
            f"{need}; {need - most} more distinct held-out requests answered by the frontier are "
            "missing"
        )
    return sum(size >= need for size in sizes)


def _evidence(answers: pd.DataFrame, groups: Groups, parts: list[Any]) -> str:
    rows = answers[answers["split"].isin(["validation", "calibration"])].sort_values("prompt_id")
    columns = ["prompt_id", "split", "group_id", "agrees", "output", "finish_reason", *FEATURES]
    lines = rows[columns].astype(object).astype(str).to_numpy().tolist()
    return digest([groups.version, lines, parts])


def fit_policy(
    answers: pd.DataFrame,
    groups: Groups,
    *,
    target_agreement: float,
    delta: float,
    student: Mapping[str, str],
    frontier: Mapping[str, str],
    costs: Mapping[str, Any],
    previous: PolicyBundle | None,
    versions: Mapping[str, str],
    embedder_path: str,
    challenger: PolicyBundle | None = None,
    recalibrations: int = 0,
) -> PolicyBundle:
    """Fit the score on validation rows and a certificate per group on calibration rows.

    Run twice on the same rows after the same policy it gives the same bytes, and so does running
    it again on top of its own result. Only new evidence is a recalibration; new prices are not.

    Args:
        answers: ``student_answers`` columns + group_id, one row per dedup key; contract and
            request_text if known. Other splits, gold above all, are not looked at.
        groups: the task groups; retired ones are left out.
        target_agreement: promised agreement among served answers of each group.
        delta: chance that any promise is ever broken, shared over groups and recalibrations.
        student: checkpoint id, adapter name, adapter sha.
        frontier: model and its version.
        costs: ``frontier_usd_per_request`` (by group id) and ``student_usd_per_request``.
        previous: the active policy.
        versions: of detector, decoding, prices and whatever else voids a certificate.
        embedder_path: where the router finds the embedder; relative to the bundle's folder.
        challenger: what was fitted last for this student, if that is not the active policy.
        recalibrations: highest of any policy so far, those taken back included.

    Raises:
        NotEnoughRows: if no group could be certified even with full agreement.
    """
    alpha = round(1 - target_agreement, 12)
    calibration = answers[answers["split"] == "calibration"].sort_values("prompt_id")
    tested = _testable(calibration, groups, alpha, delta)
    subject = subject_hash(student, frontier, versions, groups.embedder_version)
    evidence = _evidence(answers, groups, [subject, target_agreement, delta])
    known = [bundle for bundle in (previous, challenger) if bundle is not None]
    again = next((bundle for bundle in known if bundle.evidence_hash == evidence), None)
    so_far = max(recalibrations, *(bundle.recalibration for bundle in known), 0)
    recalibration = again.recalibration if again else so_far + 1
    score = fit_score(answers[answers["split"] == "validation"])
    spent = shared_delta(delta, tested, recalibration)
    frontier_usd = costs.get("frontier_usd_per_request", {})
    student_usd = costs.get("student_usd_per_request")
    fitted = [
        _group_policy(
            group,
            calibration[calibration["group_id"] == group.group_id],
            score,
            alpha=alpha,
            delta=spent,
            frontier_usd=frontier_usd.get(group.group_id),
            student_usd=student_usd,
        )
        for group in sorted(groups.active, key=lambda g: g.group_id)
    ]
    fields = {
        "recalibration": recalibration,
        "target_agreement": target_agreement,
        "delta": delta,
        "student": dict(student),
        "frontier": dict(frontier),
        "versions": dict(versions),
        "subject_hash": subject,
        "evidence_hash": evidence,
        "embedder_version": groups.embedder_version,
        "embedder_path": embedder_path,
        "student_usd_per_request": student_usd,
        "score": score,
        "groups": fitted,
    }
    if again is not None:
        same = seal(parent=again.parent, **fields)
        if same.sha256 == again.sha256:
            return same
    return seal(parent=previous.sha256 if previous else None, **fields)


def served(bundle: PolicyBundle, answers: pd.DataFrame) -> pd.Series:
    """Whether the policy would have served the student's answer, per row of ``answers``."""
    limits = {g.group_id: g.threshold for g in bundle.groups if g.arm == "student"}
    floor = answers["group_id"].map(limits).astype(float)
    # NaN on either side compares false: unknown group or unservable answer.
    return pd.Series(scores(bundle.score, answers), index=answers.index) >= floor


def check_on_gold(bundle: PolicyBundle, answers: pd.DataFrame) -> pd.DataFrame:
    """What the policy achieves on gold rows, which nothing was fitted on.

    Args:
        bundle: the policy.
        answers: as for ``fit_policy``; only rows of the gold split are used.

    Returns:
        A row per group and one for ``all`` (unassigned requests included): group_id, name, arm, n,
        served, coverage, agreement and its exact lower bound at 1 - delta (NaN if none served).
    """
    gold = answers[answers["split"] == "gold"]
    kept = served(bundle, gold)
    parts = [(g.group_id, g.name, g.arm, gold["group_id"] == g.group_id) for g in bundle.groups]
    parts.append(("all", "all", "", pd.Series(data=True, index=gold.index)))
    rows = []
    for group_id, name, arm, own in parts:
        n, count = int(own.sum()), int((own & kept).sum())
        good = int((own & kept & gold["agrees"].astype(bool)).sum())
        rows.append(
            {
                "group_id": group_id,
                "name": name,
                "arm": arm,
                "n": n,
                "served": count,
                "coverage": count / n if n else float("nan"),
                "agreement": good / count if count else float("nan"),
                "agreement_lower": lower_bound(good, count, bundle.delta)
                if count
                else float("nan"),
                "target_agreement": bundle.target_agreement,
            }
        )
    return pd.DataFrame(rows)
