"""Reads every figure of the report from the store.

Not here: estimates; and how figures are shown (``summary.py``, ``page.py``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.confidence.answer_score_fit import scores
from loop_pipeline.confidence.coverage import most_by_group
from loop_pipeline.confidence.frontier_twice import FrontierTwice, frontier_twice
from loop_pipeline.evaluation.unspent_gold import FEWEST_QUOTED
from loop_pipeline.report.bill import routed_costs
from loop_pipeline.report.next_step import warnings_of
from loop_pipeline.report.numbers import (
    Agreement,
    Coverage,
    GroupNumbers,
    LoopNumbers,
    QualityCurve,
    RiskCurve,
    Served,
    cluster_points,
)
from loop_pipeline.rollout.policy_text import promised
from loop_pipeline.routing.gold_check import check_on_gold
from loop_pipeline.routing.policy import PolicyBundle, load_bundle
from loop_pipeline.settings import LoopSettings
from loop_pipeline.stats.risk_coverage import risk_coverage, uncertified_coverage
from loop_pipeline.store.checkpoints import adapter_name, newest_checkpoint, spent_gold
from loop_pipeline.store.database import count, read
from loop_pipeline.store.policies import active_policy, champion_of
from loop_pipeline.store.tables import (
    GroupMemberRow,
    HallucinationFlagRow,
    LabeledPairRow,
    QuarantineRow,
    TaskGroupRow,
    TraceRow,
)
from loop_pipeline.store.training_data import newest_quality_model
from loop_pipeline.store.unpriced_traces import unpriced_remark
from loop_pipeline.whole_file import read_object

ALL_TASKS_USED = "all tasks, on the gold the gate used: up to a point too high"


def gather(
    engine: Engine, settings: LoopSettings, answers: pd.DataFrame, served: Served | None
) -> LoopNumbers:
    """Collect the figures of one turn.

    Args:
        engine: the store.
        settings: title, notes and the assumptions on cost.
        answers: the approved checkpoint's held-out answers with group_id, task, contract and
            request_text, one per distinct request; empty if there is none.
        served: a question that the deployed student has answered.
    """
    traces = read(engine, TraceRow, columns=["prompt_id", "day", "simulated"])
    groups, members = read(engine, TaskGroupRow), read(engine, GroupMemberRow)
    numbers = LoopNumbers(
        title=settings.title,
        simulated=bool(traces["simulated"].any()),
        traces=len(traces),
        days=traces["day"].nunique(),
        quarantined=count(engine, QuarantineRow, prompt_id=None),
        pairs=dict(Counter(read(engine, LabeledPairRow, columns=["kind"])["kind"])),
        flags=count(engine, HallucinationFlagRow, flag=True),
        flagged_share=count(engine, HallucinationFlagRow, flag=True) / max(len(traces), 1),
        clusters=cluster_points(members, groups) if len(groups) else [],
        served=served,
        notes=settings.notes,
        prices=settings.prices.version,
    )
    _add_quality(numbers, engine)
    checkpoint, active, newest = (
        champion_of(engine),
        active_policy(engine),
        newest_checkpoint(engine),
    )
    numbers.warnings = warnings_of(newest, served=checkpoint is not None)
    unpriced = unpriced_remark(engine)
    if unpriced:
        numbers.warnings.append(f"They are in no cost figure: {unpriced}")
    if checkpoint is None:
        why = "the student was refused, see above" if newest else "no student was trained yet"
        numbers.missing = dict.fromkeys(("agreement", "coverage", "groups", "costs", "curves"), why)
        return numbers
    twice = frontier_twice(engine)
    trained = _add_student(numbers, checkpoint, twice)
    if active is None or active["checkpoint_id"] != checkpoint["checkpoint_id"]:
        why = "no routing policy for this student yet: everything goes to the frontier"
        numbers.missing = dict.fromkeys(("coverage", "groups", "costs", "curves"), why)
        return numbers
    bundle = load_bundle(active["bundle"])
    numbers.policy_sha = bundle.sha256
    _add_routing(numbers, bundle, _quotable(answers, spent_gold(engine)), groups, twice)
    numbers.costs = routed_costs(engine, settings, bundle, training_seconds=trained)
    if numbers.costs is None:
        numbers.missing["costs"] = unpriced or "the frontier's answers are free: all cost 0 USD"
    elif numbers.costs.pays is False:
        # The policy's figures by group assume a load that the log does not bear out.
        numbers.groups = [g.model_copy(update={"routed_usd": None}) for g in numbers.groups]
    return numbers


def _quotable(answers: pd.DataFrame, spent: set[str]) -> pd.DataFrame:
    """Without the gold rows that a gate has decided on, unless too few others are left."""
    used = (answers["split"] == "gold") & answers["prompt_id"].isin(spent)
    left = int((answers["split"] == "gold").sum() - used.sum())
    return answers[~used] if left >= FEWEST_QUOTED else answers


def _add_quality(numbers: LoopNumbers, engine: Engine) -> None:
    stored = newest_quality_model(engine)
    if stored is None:
        numbers.missing["quality"] = "no quality model yet"
        return
    numbers.quality_version = stored["version"]
    numbers.quality = [
        QualityCurve(
            name=name,
            points=[tuple(point) for point in promise["curve"]],
            threshold=promise["threshold"],
            reason=promise["reason"],
        )
        for name, promise in stored["model"].get("promises", {}).items()
    ]
    if not any(curve.points for curve in numbers.quality):
        numbers.missing["quality"] = stored["reason"]


def _add_student(numbers: LoopNumbers, checkpoint: dict[str, Any], twice: FrontierTwice) -> float:
    """Returns how long its training took, seconds."""
    numbers.checkpoint_id = checkpoint["checkpoint_id"]
    numbers.student_adapter = adapter_name(checkpoint["checkpoint_id"])
    numbers.dataset_id = checkpoint["dataset_id"]
    numbers.mlflow_run_id = checkpoint["mlflow_run_id"]
    meta_file = Path(checkpoint["adapter_dir"]) / "meta.json"
    meta = read_object(meta_file, ("loss_curve",), mend="restore it, or train again")
    numbers.loss = [(int(step), float(loss)) for step, loss in meta["loss_curve"]]
    metrics = checkpoint["metrics"]
    rival = metrics["rival"]
    numbers.reference_name = (
        "the base" if rival.startswith("base") else f"champion {adapter_name(rival)}"
    )
    # The gate takes the best of several on its rows: others are quoted, if there are any.
    quoted = metrics.get("unspent")
    known = quoted or metrics | {"rival_agreement": metrics["gate"]["rival_agreement"]}
    numbers.agreement = _agreement("all tasks" if quoted else ALL_TASKS_USED, known)
    numbers.agreement.reference = known["rival_agreement"]
    numbers.agreement.ceiling = twice.whole
    numbers.agreement_by_task = [
        _agreement(n, part).model_copy(update={"ceiling": twice.tasks.get(n)})
        for n, part in known["tasks"].items()
    ]
    return float(meta.get("seconds", 0))


def _agreement(name: str, part: dict[str, Any]) -> Agreement:
    return Agreement(
        name=name,
        value=part["agreement"],
        low=part["agreement_low"],
        high=part["agreement_high"],
        n=part["n"],
        lexical=part["rouge_l"] is not None and part["measure"].startswith("lexical"),
    )


def _add_routing(
    numbers: LoopNumbers,
    bundle: PolicyBundle,
    answers: pd.DataFrame,
    groups: pd.DataFrame,
    twice: FrontierTwice,
) -> None:
    calibration = answers[answers["split"] == "calibration"]
    alpha = 1 - bundle.target_agreement
    surety = np.nan_to_num(scores(bundle.score, calibration), nan=-np.inf)
    agrees = calibration["agrees"].to_numpy(dtype=bool)
    whole = check_on_gold(bundle, answers).set_index("group_id").loc["all"]
    own, students = calibration["group_id"], [g for g in bundle.groups if g.arm == "student"]
    most = most_by_group(calibration, alpha) if bundle.margin is None else {}
    certified = sum(float(g.coverage) * int((own == g.group_id).sum()) for g in students)
    numbers.coverage = Coverage(
        target=bundle.target_agreement,
        delta=bundle.delta,
        certified=certified / max(len(calibration), 1),
        # Relative to the ceiling a student may be wrong more often: there is no such bound.
        most=float(own.astype(str).map(most).mean()) if most else None,
        promised="" if bundle.margin is None else promised(bundle),
        achieved=_number(whole["coverage"]),
        achieved_agreement=_number(whole["agreement"]),
        uncertified=uncertified_coverage(surety, agrees, alpha),
    )
    sizes = groups.set_index("group_id")["size"].to_dict()
    for policy in bundle.groups:
        frontier = policy.frontier_usd_per_request
        contracts = answers.loc[answers["group_id"] == policy.group_id, "contract"]
        numbers.groups.append(
            GroupNumbers(
                group_id=policy.group_id,
                name=policy.name,
                task=policy.task,
                size=int(sizes.get(policy.group_id, 0)),
                arm=policy.arm,
                threshold=policy.threshold,
                coverage=policy.coverage if policy.arm == "student" else 0.0,
                agreement=policy.agreement,
                agreement_low=policy.agreement_lower,
                n=policy.n,
                frontier_usd=frontier,
                routed_usd=frontier
                if policy.expected_usd_per_request is None and policy.arm == "frontier"
                else policy.expected_usd_per_request,
                reason=policy.reason,
                lexical=any(not c or c["kind"] == "text" for c in contracts),
                ceiling=twice.ceilings.get(policy.group_id),
                most=most.get(policy.group_id),
            )
        )
        mine = (own == policy.group_id).to_numpy()
        curve = risk_coverage(surety[mine], agrees[mine])
        shown = curve.iloc[:: max(1, len(curve) // 200)]
        numbers.risk_curves.append(
            RiskCurve(
                group=policy.name,
                points=[
                    (float(c), 1 - float(a)) for c, a in shown[["coverage", "agreement"]].values
                ],
                certified=(policy.coverage, 1 - (policy.agreement or 0.0))
                if policy.threshold is not None
                else None,
            )
        )


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
