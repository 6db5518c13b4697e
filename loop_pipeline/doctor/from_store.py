"""What the policy in force achieves on gold requests, as outcomes for the doctor.

Not here: tables of a team's own (``outcome_table.py``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Engine

from loop_pipeline.artifacts import policy_folder
from loop_pipeline.confidence.answer_score_fit import scores
from loop_pipeline.confidence.certificate import Certificate
from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.doctor.outcome_table import CertifiedGroup, Floats, Outcomes
from loop_pipeline.groups.embedding.model_embedder import open_embedder
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.report.bill import routed_costs
from loop_pipeline.report.words.cost_words import cost_sentence, load_sentence
from loop_pipeline.rollout.stored_policies import in_force, student_of
from loop_pipeline.routing.evidence.calibration_rows import (
    held_out_answers,
    other_models,
    versions_of,
)
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle
from loop_pipeline.settings import LoopSettings


class NothingToJudge(ValueError):
    """There is no policy, or nothing it could be judged on; one line says what is missing."""


def outcomes_in_force(engine: Engine, settings: LoopSettings) -> Outcomes:
    """The champion's policy on the gold requests that its models answered.

    Raises:
        NothingToJudge: no policy is in force, or its models have no gold answers.
    """
    bundle = in_force(engine)
    if bundle is None or not student_of(bundle):
        raise NothingToJudge("no student is in force: everything goes to the frontier")
    others: list[Contender] = []
    if bundle.others:
        embedder = open_embedder(
            policy_folder(settings) / bundle.embedder_path,
            **settings.embedder_access(),  # pyright: ignore[reportArgumentType]
        )
        others = other_models(engine, embedder)
    costs = routed_costs(engine, settings, bundle)
    idle = costs is not None and costs.pays is False
    answers = held_out_answers(engine, student_of(bundle), bundle.app)
    # Below the break-even a call costs what it does at the logged load.
    unit = costs.student_usd_per_request if costs and idle else None
    found = outcomes_of(bundle, answers, others, student_usd=unit)
    void = bundle.void_because(versions_of(settings))
    expired = bundle.expires_at <= time.time()
    warnings = [void] if void else []
    warnings += [f"the certificates expired on {bundle.expires}"] if expired else []
    warnings = [f"{line}: everything goes to the frontier" for line in warnings]
    warnings += [cost_sentence(costs)] if costs and idle else []
    return replace(
        found,
        self_agreement=self_agreement(engine, found.models[-1]),
        warnings=warnings,
        notes=[*found.notes, load_sentence(costs)] if costs else found.notes,
    )


def outcomes_of(
    bundle: PolicyBundle,
    answers: pd.DataFrame,
    others: Sequence[Contender] = (),
    *,
    student_usd: float | None = None,
) -> Outcomes:
    """A policy's outcomes on gold rows; its best single models are chosen on the other rows.

    Args:
        bundle: the policy.
        answers: as `calibration_rows.held_out_answers` gives them.
        others: the cheaper models of the policy besides the student.
        student_usd: what a call of the student costs, if not what the policy says.

    Raises:
        NothingToJudge: no gold request was answered by all models of the policy.
    """
    used = [c for c in others if c.name in {model.name for model in bundle.others}]
    gold, agrees, score = _gold(bundle, answers, used)
    student, names = bundle.student["adapter"], _names(bundle)
    models = [student, *(c.name for c in used), bundle.frontier.get("model", "frontier")]
    frontier = len(models) - 1
    own_usd = bundle.student_usd_per_request if student_usd is None else student_usd
    units = [own_usd, *(c.usd_per_request for c in used)]
    frontier_usd = gold["cost_usd"].to_numpy(float)
    notes = [
        f"what {name} costs is not known: taken as 0"
        for name, unit in zip(models, units, strict=False)
        if unit is None
    ]
    usd = np.array([unit or 0.0 for unit in units])
    frontier_usd, usd, said = _priced(frontier_usd, usd)
    notes += said
    before = np.array([False, *(c.calls_for == "accepted" for c in used)])
    first, floor = _first(bundle, gold, models)
    rows = np.arange(len(gold))
    kept = (first < frontier) & (
        np.column_stack([score, np.zeros(len(gold))])[rows, first] >= floor
    )
    called = (first < frontier) & (kept | ~np.append(before, True)[first])
    # Of what a cheaper model serves the shadow share is paid twice.
    twice = 1 - kept * (1 - bundle.exploration_rate)
    return Outcomes(
        source=f"policy {bundle.sha256[:12]}",
        models=models,
        reference=frontier,
        weak=0,
        quality=np.column_stack([agrees, np.ones(len(gold))]),
        cost=np.column_stack([np.tile(usd, (len(gold), 1)), frontier_usd]),
        length=gold["request_text"].map(len).to_numpy(float),
        group=gold["group_id"].map(names).fillna(UNASSIGNED).to_numpy(dtype=object),
        score=score[:, 0],
        chosen=np.where(kept, first, frontier),
        paid=called * np.append(usd, 0.0)[first] + twice * frontier_usd,
        best_single=_best_single(answers, used, gold["group_id"], usd),
        certified=[_certified(policy, names[policy.group_id], models) for policy in bundle.groups],
        target=bundle.target_agreement,
        delta=bundle.delta,
        after_answer=True,
        rows={name: int((answers["split"] == name).sum()) for name in ("validation", "calibration")}
        | {"gold": len(gold)},
        measure="agreement overall",
        notes=[*notes, "agreement with the frontier; a request that it answers agrees by itself"],
    )


def _gold(
    bundle: PolicyBundle, answers: pd.DataFrame, used: Sequence[Contender]
) -> tuple[pd.DataFrame, Floats, Floats]:
    """Gold requests that every cheaper model answered: whether it agrees, and its score, (n, m)."""
    gold = answers[answers["split"] == "gold"].set_index("prompt_id")
    answered = [c.rows[c.rows["split"] == "gold"].set_index("prompt_id") for c in used]
    for rows in answered:
        gold = gold[gold.index.isin(rows.index)]
    if gold.empty:
        names = ", ".join([bundle.student["adapter"], *(c.name for c in used)])
        raise NothingToJudge(f"no gold request was answered by {names}: evaluate the student first")
    agrees, score = [gold["agrees"]], [pd.Series(scores(bundle.score, gold), gold.index)]
    for rows in answered:
        own = rows.loc[gold.index]
        agrees.append(own["agrees"])
        score.append(own["score"])
    return (
        gold,
        np.column_stack([a.to_numpy(float) for a in agrees]).astype(np.float64),
        np.column_stack([s.to_numpy(float) for s in score]).astype(np.float64),
    )


def _first(
    bundle: PolicyBundle, gold: pd.DataFrame, models: list[str]
) -> tuple[NDArray[np.int64], Floats]:
    """Number of the model that each request goes to first, and the threshold for its answer."""
    groups = {g.group_id: g for g in bundle.groups if g.arm == "student"}
    found = [groups.get(str(name)) for name in gold["group_id"]]
    first = [
        len(models) - 1 if g is None else models.index(g.model) if g.model else 0 for g in found
    ]
    floor = [np.inf if g is None or g.threshold is None else g.threshold for g in found]
    return np.array(first, dtype=np.int64), np.array(floor)


def _names(bundle: PolicyBundle) -> dict[str, str]:
    """Name of each group by id; one that is not unique carries its id."""
    names = [group.name for group in bundle.groups]
    return {
        g.group_id: g.name if names.count(g.name) == 1 else f"{g.name} ({g.group_id[:8]})"
        for g in bundle.groups
    }


def _certified(policy: GroupPolicy, name: str, models: list[str]) -> CertifiedGroup:
    certificate = Certificate(**policy.model_dump(include=set(Certificate.model_fields)))
    model = None
    if policy.arm == "student":
        model = models.index(policy.model) if policy.model else 0
    return CertifiedGroup(name, model, certificate, policy.reason)


def _priced(frontier: Floats, others: Floats) -> tuple[Floats, Floats, list[str]]:
    """Costs of the frontier where some are unpriced, and of the other models in the same unit."""
    known = np.isfinite(frontier)
    if not known.any():
        said = f"the frontier is {UNPRICED}; until then a call of it counts 1, of any other model 0"
        return np.ones(len(frontier)), np.zeros(len(others)), [said]
    said = []
    if not known.all():
        said.append(
            f"{int((~known).sum()):,} of {len(frontier):,} gold requests are {UNPRICED}; until then"
            " each counts what the others cost on average"
        )
    elif not frontier.any():
        said.append("the frontier's answers are free: every cost of the frontier is 0")
    return np.where(known, frontier, frontier[known].mean()), others, said


def _best_single(
    answers: pd.DataFrame, used: Sequence[Contender], groups: pd.Series, usd: Floats
) -> NDArray[np.int64]:
    """The cheapest model that agreed in all of a group's other rows, else the frontier."""
    frontier = len(usd)
    best = np.full(len(groups), frontier, dtype=np.int64)
    for k in np.argsort(-usd, kind="stable"):  # the cheapest last, so that it stands
        rows = answers if k == 0 else used[k - 1].rows
        rest = rows[rows["split"] != "gold"]
        always = rest.groupby("group_id")["agrees"].agg(lambda a: bool(a.astype(bool).all()))
        flawless = groups.map(always).fillna(value=False).astype(bool).to_numpy()
        best[flawless] = k
    return best


def self_agreement(engine: Engine, model: str) -> tuple[int, int]:
    """Requests that a frontier model answered twice: how many, and in how many it agrees.

    Those that a coin drew; if there are none, requests that came more than once.
    """
    whole = frontier_twice(engine, model).whole
    return (whole.asked, whole.agreed) if whole else (0, 0)
