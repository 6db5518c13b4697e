"""What the policy in force achieves on gold requests, as outcomes for the doctor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from sqlalchemy import Engine, func, select

from loop_pipeline.groups.clustering import UNASSIGNED
from loop_pipeline.routing.certificate import Certificate
from loop_pipeline.routing.fitting import served
from loop_pipeline.routing.logged import held_out_answers
from loop_pipeline.routing.outcomes import CertifiedGroup, Outcomes
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle
from loop_pipeline.routing.release import in_force, student_of
from loop_pipeline.routing.score import scores
from loop_pipeline.store.queries import query
from loop_pipeline.store.tables import ContractRow, TraceRow

STUDENT, FRONTIER = 0, 1


class NothingToJudge(ValueError):
    """There is no policy, or nothing it could be judged on; one line says what is missing."""


def outcomes_in_force(engine: Engine) -> Outcomes:
    """The champion's policy on the gold requests that its student answered.

    Raises:
        NothingToJudge: no policy is in force, or its student has no gold answers.
    """
    bundle = in_force(engine)
    if bundle is None:
        raise NothingToJudge("no policy is in force: everything goes to the frontier")
    answers = held_out_answers(engine, student_of(bundle))
    if not (answers["split"] == "gold").any():
        raise NothingToJudge(
            f"the student {bundle.student['adapter']} has no answers to gold requests: "
            "evaluate it first"
        )
    found = outcomes_of(bundle, answers)
    return replace(found, self_agreement=self_agreement(engine, found.models[FRONTIER]))


def outcomes_of(bundle: PolicyBundle, answers: pd.DataFrame) -> Outcomes:
    """A policy's outcomes on gold rows; its best single models are chosen on the other rows.

    Args:
        bundle: the policy.
        answers: as `logged.held_out_answers` gives them.
    """
    gold = answers[answers["split"] == "gold"]
    names = _names(bundle)
    kept = served(bundle, gold).to_numpy(bool)
    asked = gold["group_id"].isin([g.group_id for g in bundle.groups if g.arm == "student"])
    unit, frontier_usd = bundle.student_usd_per_request, gold["cost_usd"].to_numpy(float)
    notes = [] if unit is not None else ["what the student costs is not known: taken as 0"]
    if not frontier_usd.any():
        notes.append("the traces carry no cost: every cost of the frontier is 0")
    # Of what the student serves the shadow share is paid twice.
    twice = 1 - kept * (1 - bundle.exploration_rate)
    group = gold["group_id"].map(names).fillna(UNASSIGNED).to_numpy(dtype=object)
    agrees = gold["agrees"].to_numpy(float)
    return Outcomes(
        source=f"policy {bundle.sha256[:12]}",
        models=[bundle.student["adapter"], _frontier(bundle, gold)],
        reference=FRONTIER,
        weak=STUDENT,
        quality=np.column_stack([agrees, np.ones(len(gold))]),
        cost=np.column_stack([np.full(len(gold), unit or 0.0), frontier_usd]),
        length=gold["request_text"].map(len).to_numpy(float),
        group=group,
        score=scores(bundle.score, gold),
        chosen=np.where(kept, STUDENT, FRONTIER),
        paid=asked.to_numpy() * (unit or 0.0) + twice * frontier_usd,
        best_single=_best_single(answers, gold),
        certified=[_certified(policy, names[policy.group_id]) for policy in bundle.groups],
        target=bundle.target_agreement,
        delta=bundle.delta,
        after_answer=True,
        rows={str(name): int(n) for name, n in answers["split"].value_counts().items()},
        measure="agreement overall",
        notes=[*notes, "agreement with the frontier; a request that it answers agrees by itself"],
    )


def _frontier(bundle: PolicyBundle, gold: pd.DataFrame) -> str:
    known = bundle.frontier.get("model")
    return str(known or gold["frontier_model"].mode().iloc[0])


def _names(bundle: PolicyBundle) -> dict[str, str]:
    """Name of each group by id; one that is not unique carries its id."""
    names = [group.name for group in bundle.groups]
    return {
        g.group_id: g.name if names.count(g.name) == 1 else f"{g.name} ({g.group_id[:8]})"
        for g in bundle.groups
    }


def _certified(policy: GroupPolicy, name: str) -> CertifiedGroup:
    fields = set(Certificate.model_fields)
    certificate = Certificate(**policy.model_dump(include=fields))
    return CertifiedGroup(
        name, STUDENT if policy.arm == "student" else None, certificate, policy.reason
    )


def _best_single(answers: pd.DataFrame, gold: pd.DataFrame) -> np.ndarray:
    """The student where it agreed in all of a group's other rows, else the frontier."""
    rest = answers[answers["split"] != "gold"]
    always = rest.groupby("group_id")["agrees"].agg(lambda a: bool(a.astype(bool).all()))
    flawless = gold["group_id"].map(always).fillna(value=False).astype(bool)
    return np.where(flawless.to_numpy(), STUDENT, FRONTIER)


def self_agreement(engine: Engine, model: str) -> tuple[int, int]:
    """Requests that a frontier model answered twice: how many, and in how many it agrees.

    Of a request that came more often the first two answers count.
    """
    from loop_pipeline.training.agreement import agrees

    own = (TraceRow.producer == "frontier") & (TraceRow.model == model)
    again = (
        select(TraceRow.dedup_key).where(own).group_by(TraceRow.dedup_key).having(func.count() > 1)
    )
    statement = (
        select(TraceRow.dedup_key, TraceRow.output, ContractRow.body)
        .outerjoin(ContractRow, ContractRow.contract_id == TraceRow.contract_id)
        .where(own, TraceRow.dedup_key.in_(again))
        .order_by(TraceRow.dedup_key, TraceRow.ts, TraceRow.prompt_id)
    )
    pairs, same = 0, 0
    for _, rows in query(engine, statement).groupby("dedup_key", sort=True):
        first, second = rows["output"].iloc[:2]
        contract = rows["body"].iloc[0]
        pairs += 1
        same += agrees(first, second, contract if isinstance(contract, dict) else None)
    return pairs, same
