"""From a student's answers to held-out requests to a policy, and the check on gold rows.

Not here: the promise of one group (``confidence/certificate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.confidence.answer_score_fit import fit_score, scores
from loop_pipeline.confidence.frontier_twice import FrontierTwice
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.hashing import plain_numbers, subject_hash
from loop_pipeline.routing import standing
from loop_pipeline.routing.evidence.row_units import about_units
from loop_pipeline.routing.offers import (
    Contender,
    asked_twice,
    choose,
    make_offer,
    told,
)
from loop_pipeline.routing.policy import PolicyBundle, seal
from loop_pipeline.routing.promise_round import new_round


def _student(
    student: Mapping[str, str],
    usd: float | None,
    answers: pd.DataFrame,
    in_use: ScoreWeights | None,
) -> Contender:
    used = answers[answers["split"].isin(["validation", "calibration"])]
    score = in_use or fit_score(used[used["split"] == "validation"])
    # As a policy will have it: the next fit reads it from there.
    score = ScoreWeights.model_validate(plain_numbers(score.model_dump()))
    columns = ["prompt_id", "split", "group_id", "agrees", "unit", "times"]
    rows = used.filter(columns).assign(score=scores(score, used))
    return Contender(student["adapter"], student["checkpoint_id"], usd, score, rows)


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
    held: Mapping[str, str] | None = None,
    twice: FrontierTwice | None = None,
    margin: float | None = None,
) -> PolicyBundle:
    """Fit the score on validation rows and a certificate per group on calibration rows.

    Run twice on the same rows after the same policy it gives the same bytes, and so does running
    it again on top of its own result. A certificate is tested once and then stays, while student,
    frontier and group do; new rows may loosen it (``confidence/standing_certificate.py``). Only new
    tests are a recalibration: new rows of the same student are not, and neither are prices.

    Args:
        answers: ``student_answers`` columns + group_id, one row per dedup key; contract,
            request_text, ts, unit, times and conversation_id if known. Other splits, gold above
            all, are not looked at.
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
        held: groups that are held back, and since when: what was promised of them before is void.
        twice: requests that the frontier answered twice; None: not known.
        margin: promise agreement relative to the ceiling, less this; None: ``target_agreement``.

    Raises:
        NotEnoughRows: if no group could be certified even with full agreement.
    """
    student_usd = costs.get("student_usd_per_request")
    known = [bundle for bundle in (previous, challenger) if bundle is not None]
    in_use = standing.score_in_use(known, student, versions)
    own = _student(student, student_usd, answers, in_use)
    contenders, twice = [own, *sorted(others, key=lambda c: c.name)], twice or FrontierTwice()
    if margin is not None:
        contenders = [asked_twice(contender, twice) for contender in contenders]
    subject = subject_hash(
        student, frontier, versions, groups.embedder_version, [(c.name, c.version) for c in others]
    )
    promise = standing.promise_of(target_agreement, delta, margin)
    facts = [subject, *promise, *sorted((held or {}).items())]
    evidence = standing.rows_hash(contenders, groups, facts)
    again = next((bundle for bundle in known if bundle.evidence_hash == evidence), None)
    so_far = max(recalibrations, *(bundle.recalibration for bundle in known), 0)
    tests = new_round(
        contenders,
        groups,
        known,
        [dict(frontier), dict(versions), groups.embedder_version, app],
        held or {},
        number=again.recalibration if again else so_far + 1,
        target_agreement=target_agreement,
        delta=delta,
        margin=margin,
    )
    frontier_usd = costs.get("frontier_usd_per_request", {})
    fitted = []
    for group in sorted(groups.active, key=lambda g: g.group_id):
        usd = frontier_usd.get(group.group_id)
        offers = [make_offer(c, tests.certificate(c, group), usd) for c in contenders]
        chosen = choose(group, offers, student=own.name, delta=tests.share, frontier_usd=usd)
        fitted.append(told(chosen, twice, target_agreement if margin is None else None))
    rounds = [offer.round for group in fitted for offer in (group.offers or [group])]
    fields = {
        "recalibration": max(rounds),
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
        "score": own.score,
        "groups": fitted,
        "expires": expiry(answers, certificate_days),
        "prices": costs.get("prices"),
        "app": app,
        "ceiling": twice.whole,
        "margin": margin,
        "units": about_units(answers[answers["split"] == "calibration"]),
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
