"""A policy for the student in the store: what it is fitted on is read here, and what it achieves.

How thresholds are found is in ``policy_fit``; what comes into force is decided in ``rollout``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.artifacts import embedder_path
from loop_pipeline.confidence.answer_score import FEATURES
from loop_pipeline.confidence.answer_score_fit import fit_score
from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.costs.attribution import student_usd_per_request
from loop_pipeline.groups.clustering.fit import Groups
from loop_pipeline.groups.embedding.model_embedder import open_embedder
from loop_pipeline.groups.model_comparison import frontier_usd_by_group
from loop_pipeline.hashing import seal_of, subject_hash
from loop_pipeline.routing.evidence.calibration_rows import (
    held_out_answers,
    other_models,
    recent_rows,
    versions_of,
)
from loop_pipeline.routing.gold_check import check_on_gold, verdicts
from loop_pipeline.routing.off_policy_gate import OffPolicyReport, check
from loop_pipeline.routing.offers import choose
from loop_pipeline.routing.policy import Offer, PolicyBundle, seal
from loop_pipeline.routing.policy_fit import fit_policy
from loop_pipeline.routing.promise_round import NotEnoughRows
from loop_pipeline.settings import LoopSettings
from loop_pipeline.store.checkpoints import adapter_name, newest_checkpoint
from loop_pipeline.store.database import read
from loop_pipeline.store.policies import spent_recalibrations
from loop_pipeline.store.tables import GroupMemberRow, TaskGroupRow, TraceRow
from loop_pipeline.store.traces import read_traces
from loop_pipeline.training.dataset.splits import split_traces


class NoPolicy(ValueError):
    """No policy can be made now; says why. The one in force stays."""


def policy_from_store(
    engine: Engine,
    settings: LoopSettings,
    *,
    previous: PolicyBundle | None,
    challenger: PolicyBundle | None,
    holds: Sequence[Mapping[str, Any]] = (),
) -> tuple[PolicyBundle, OffPolicyReport]:
    """A policy for the newest approved student, and what logged requests say about it.

    Args:
        engine: the store.
        settings: promises, prices and where the embedder lies.
        previous: the policy in force, without its canary.
        challenger: the canary's policy, if there is one.
        holds: rows of ``holds`` in force: a held group is certified by answers of after its hold.

    Raises:
        NoPolicy: there is no approved student or no task group, or no group has rows enough; or
            the logged requests speak against the policy.
    """
    checkpoint = newest_checkpoint(engine, "approved")
    if checkpoint is None:
        raise NoPolicy("no approved checkpoint")
    groups, around = _surroundings(engine, settings)
    # Before anything rests on a row: what is gold now stays gold, and what is not never becomes it.
    split_traces(engine)
    name = checkpoint["checkpoint_id"]
    path = embedder_path(settings, groups.embedder_version)
    embedder = open_embedder(path, settings.train_python, **settings.embedder_access())
    others, days = other_models(engine, embedder), settings.evidence_days
    since = {str(row["group_id"]): row["at"] for row in holds}
    times = read(engine, TraceRow, columns=["prompt_id", "ts"]) if others else pd.DataFrame()
    try:
        bundle = fit_policy(
            recent_rows(held_out_answers(engine, name, settings.app), days, since),
            groups,
            student={"checkpoint_id": name, "adapter": adapter_name(name)},
            others=[replace(c, rows=recent_rows(c.rows.merge(times), days, since)) for c in others],
            certificate_days=settings.certificate_days,
            previous=previous,
            challenger=challenger,
            held={name: at.isoformat() for name, at in since.items()},
            recalibrations=spent_recalibrations(engine),
            twice=frontier_twice(engine, around["frontier"]["model"]),
            margin=settings.ceiling_margin if settings.target_kind == "ceiling" else None,
            **around,
        )
    except NotEnoughRows as error:
        raise NoPolicy(str(error)) from error
    judged = check(engine, bundle, others)
    if not judged.passed:
        raise NoPolicy(judged.reason)
    return bundle, judged


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
    app: str = "",
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
        app: the only one whose requests it is for; empty: all.
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
        app=app,
    )


def frontier_only_from_store(engine: Engine, settings: LoopSettings, reason: str) -> PolicyBundle:
    """The policy while no student is good enough.

    Args:
        engine: the store.
        settings: of the loop.
        reason: why no student serves; it stands beside every group.

    Raises:
        NoPolicy: there is no task group yet.
    """
    groups, around = _surroundings(engine, settings)
    return frontier_only(groups, reason=reason, **around)


def _surroundings(engine: Engine, settings: LoopSettings) -> tuple[Groups, dict[str, Any]]:
    """The task groups, and what every policy says of what runs beside the student."""
    groups = Groups.from_rows(read(engine, TaskGroupRow))
    if groups is None:
        raise NoPolicy("there are no task groups yet: materialize task_groups")
    traces, members = read_traces(engine, producer="frontier"), read(engine, GroupMemberRow)
    student_usd = student_usd_per_request(settings.server_hourly_usd, settings.requests_per_hour)
    return groups, {
        "target_agreement": settings.target_agreement,
        "delta": settings.delta,
        "frontier": {"model": str(traces["model"].mode().iloc[0])},
        "costs": {
            "frontier_usd_per_request": frontier_usd_by_group(traces, members),
            "student_usd_per_request": student_usd,
            "prices": settings.prices.version,
        },
        "versions": versions_of(settings),
        "app": settings.app,
        "embedder_path": f"../embedders/{embedder_path(settings, groups.embedder_version).name}",
    }


def gold_promises(
    engine: Engine, settings: LoopSettings, policies: Mapping[str, PolicyBundle]
) -> pd.DataFrame:
    """What policies achieve on gold rows, and what that says about each group's promise.

    Args:
        engine: the store.
        settings: where the embedder lies.
        policies: by who they are, such as ``champion``; all their groups share ``delta``.

    Returns:
        Rows of `gold_check.check_on_gold` with who, and the columns of `gold_check.verdicts`.
    """
    parts = []
    for who, bundle in policies.items():
        path = embedder_path(settings, bundle.embedder_version)
        access = settings.embedder_access()
        embedder = open_embedder(path, settings.train_python, **access) if bundle.others else None
        others = other_models(engine, embedder) if embedder else []
        answers = held_out_answers(engine, bundle.student["checkpoint_id"], bundle.app)
        parts.append(check_on_gold(bundle, answers, others).assign(who=who, delta=bundle.delta))
    return verdicts(pd.concat(parts, ignore_index=True)).drop(columns="delta")
