"""From a student's answers to held-out requests to a policy, and the check on gold rows.

Not here: the promise of one group (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.confidence.answer_score_fit import fit_score, scores
from loop_pipeline.confidence.ceiling import with_ceiling
from loop_pipeline.confidence.certificate import shared_delta
from loop_pipeline.confidence.frontier_twice import FrontierTwice
from loop_pipeline.confidence.relative_certificate import rows_needed
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.hashing import seal_of, subject_hash
from loop_pipeline.routing.offers import Contender, choose, make_offer
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle, seal
from loop_pipeline.stats.binomial import smallest_certifiable


class NotEnoughRows(ValueError):
    """No group has the calibration rows any promise needs; the active policy stays."""


def _testable(
    contenders: Sequence[Contender],
    groups: Groups,
    alpha: float,
    delta: float,
    margin: float | None,
) -> int:
    """How many tests share delta: those with rows enough for a promise if they were alone."""
    sizes = [len(c.calibration(g.group_id)) for c in contenders for g in groups.active]
    alone, most = shared_delta(delta, 1, 1), max(sizes, default=0)
    need = smallest_certifiable(alpha, alone) if margin is None else rows_needed(margin, alone)
    if most < need:
        raise NotEnoughRows(
            f"{len(groups.active)} task groups, the largest has {most} calibration rows and needs "
            f"at least {need}; {need - most} more distinct held-out requests answered by the "
            f"frontier{'' if margin is None else ' twice (LOOP_FRONTIER_AGAIN_RATE)'} are missing"
        )
    return sum(size >= need for size in sizes)


def _rows_hash(contenders: Sequence[Contender], groups: Groups, parts: list[Any]) -> str:
    columns = ["prompt_id", "split", "group_id", "agrees", "score", "itself", "unit"]
    lines = [
        [[str(value) for value in row] for row in ordered.itertuples(index=False)]
        for ordered in (c.rows.sort_values("prompt_id").filter(columns) for c in contenders)
    ]
    return seal_of([groups.version, lines, parts])


def _student(
    student: Mapping[str, str], usd: float | None, answers: pd.DataFrame
) -> tuple[Contender, ScoreWeights]:
    used = answers[answers["split"].isin(["validation", "calibration"])]
    score = fit_score(used[used["split"] == "validation"])
    columns = ["prompt_id", "split", "group_id", "agrees"]
    rows = used[columns].assign(score=scores(score, used))
    return Contender(student["adapter"], student["checkpoint_id"], usd, score, rows), score


def _asked_twice(contender: Contender, twice: FrontierTwice) -> Contender:
    """Its rows for which the frontier has a second answer: a relative promise rests on them."""
    rows = contender.rows
    rows = rows[rows["prompt_id"].isin(list(twice.same))]
    about = {
        "itself": rows["prompt_id"].map(twice.same),
        "unit": rows["prompt_id"].map(twice.units),
    }
    return replace(contender, rows=rows.assign(**about))


def _told(group: GroupPolicy, twice: FrontierTwice, target: float | None) -> GroupPolicy:
    """A group with its ceiling, and a reason that does not blame a student for it."""
    ceiling, reason = twice.ceilings.get(group.group_id), group.reason
    if group.arm == "frontier" and group.threshold is None and target is not None:
        reason = with_ceiling(reason, ceiling, target)
    return group.model_copy(update={"ceiling": ceiling, "reason": reason})


def expiry(answers: pd.DataFrame, days: int) -> str | None:
    """The UTC day from which certificates on these calibration rows are void.

    Counted from the newest of them (column ``ts``): what promises anything is that traffic stays
    like theirs. None if their times are not known.
    """
    rows = answers[answers["split"] == "calibration"]
    if "ts" not in rows or rows.empty:
        return None
    return (pd.to_datetime(rows["ts"], utc=True).max() + pd.Timedelta(days=days)).date().isoformat()


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
    others: Sequence[Contender] = (),
    certificate_days: int = 90,
    app: str = "",
    twice: FrontierTwice | None = None,
    margin: float | None = None,
) -> PolicyBundle:
    """Fit the score on validation rows and a certificate per group on calibration rows.

    Run twice on the same rows after the same policy it gives the same bytes, and so does running
    it again on top of its own result. Only new evidence is a recalibration; new prices are not.

    Args:
        answers: ``student_answers`` columns + group_id, one row per dedup key; contract,
            request_text and ts if known. Other splits, gold above all, are not looked at.
        groups: the task groups; retired ones are left out.
        target_agreement: promised agreement among served answers of each group.
        delta: chance that any promise is ever broken, shared over groups and recalibrations.
        student: checkpoint id, adapter name, adapter sha.
        frontier: model and its version.
        costs: ``frontier_usd_per_request`` (by group id), ``student_usd_per_request`` and
            ``prices``, the date of the table.
        previous: the active policy.
        versions: of detector, decoding and whatever else voids a certificate.
        embedder_path: where the router finds the embedder; relative to the bundle's folder.
        challenger: what was fitted last for this student, if that is not the active policy.
        recalibrations: highest of any policy so far, those taken back included.
        others: cheaper models besides the student; of those certified the cheapest is taken.
        certificate_days: for which a certificate holds, counted from its newest row.
        app: the only one whose requests these are; the policy is for no other. Empty: all.
        twice: requests that the frontier answered twice; None: not known.
        margin: promise agreement as often as the frontier agrees with itself, less this, on rows
            that it answered twice; None: promise ``target_agreement``.

    Raises:
        NotEnoughRows: if no group could be certified even with full agreement.
    """
    alpha = round(1 - target_agreement, 12)
    student_usd = costs.get("student_usd_per_request")
    own, score = _student(student, student_usd, answers)
    contenders, twice = [own, *sorted(others, key=lambda c: c.name)], twice or FrontierTwice()
    if margin is not None:
        contenders = [_asked_twice(contender, twice) for contender in contenders]
    tested = _testable(contenders, groups, alpha, delta, margin)
    subject = subject_hash(
        student, frontier, versions, groups.embedder_version, [(c.name, c.version) for c in others]
    )
    promise = [target_agreement, delta] if margin is None else [margin, delta]
    evidence = _rows_hash(contenders, groups, [subject, *promise])
    known = [bundle for bundle in (previous, challenger) if bundle is not None]
    again = next((bundle for bundle in known if bundle.evidence_hash == evidence), None)
    so_far = max(recalibrations, *(bundle.recalibration for bundle in known), 0)
    recalibration = again.recalibration if again else so_far + 1
    spent = shared_delta(delta, tested, recalibration)
    frontier_usd = costs.get("frontier_usd_per_request", {})
    fitted = []
    for group in sorted(groups.active, key=lambda g: g.group_id):
        usd = frontier_usd.get(group.group_id)
        offers = [
            make_offer(c, group.group_id, alpha=alpha, delta=spent, frontier_usd=usd, margin=margin)
            for c in contenders
        ]
        chosen = choose(group, offers, student=own.name, delta=spent, frontier_usd=usd)
        fitted.append(_told(chosen, twice, target_agreement if margin is None else None))
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
        "expires": expiry(answers, certificate_days),
        "prices": costs.get("prices"),
        "app": app,
        "ceiling": twice.whole,
        "margin": margin,
        "others": [
            {"name": c.name, "version": c.version, "score": c.score.model_dump()}
            | {"usd_per_request": c.usd_per_request}
            for c in contenders[1:]
        ],
    }
    if again is not None:
        same = seal(parent=again.parent, **fields)
        if same.sha256 == again.sha256:
            return same
    return seal(parent=previous.sha256 if previous else None, **fields)
