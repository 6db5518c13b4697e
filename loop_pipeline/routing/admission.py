"""May this policy come into force? Judged on logged requests before it decides any."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel
from sqlalchemy import Engine

from loop_pipeline.routing.logged import logged_requests
from loop_pipeline.routing.off_policy import (
    Estimate,
    Floats,
    Logged,
    estimate,
    outcome_model,
    refusal,
)
from loop_pipeline.routing.policy import PolicyBundle


class OffPolicyReport(BaseModel):
    """What the policy would do, how far that can be believed, and whether it may be put in force.

    ``agreement`` is among the requests that the student would answer, ``quality`` and ``usd`` (a
    request) over all; None with the reason in ``sentences``. ``frontier_usd`` is what the frontier
    alone costs.
    """

    policy: str
    passed: bool
    reason: str
    sentences: list[str]
    requests: int
    replayed: int
    live: int
    share_served: Estimate | None = None
    agreement: Estimate | None = None
    quality: Estimate | None = None
    usd: Estimate | None = None
    frontier_usd: Estimate | None = None

    def to_json(self) -> str:
        """The report as JSON."""
        return self.model_dump_json(indent=2)


def check(engine: Engine, bundle: PolicyBundle) -> OffPolicyReport:
    """Judge a policy on the store's gold rows and its live, routed requests.

    It is refused if the rows are worth fewer than 200 direct observations, if one counts for more
    than 50, or if agreement is provably below what the policy promises (95% interval of either
    estimator). A policy that serves nothing needs no evidence.

    Args:
        engine: the store.
        bundle: the policy; of a canary pass ``bundle.canary.policy``, it has a student of its own.
    """
    return judge_rows(logged_requests(engine, bundle), bundle)


def judge_rows(rows: pd.DataFrame, bundle: PolicyBundle) -> OffPolicyReport:
    """Judge a policy on rows as `logged.logged_requests` gives them."""
    replayed = int(rows["replayed"].sum())
    report = OffPolicyReport(
        policy=bundle.sha256,
        passed=not bundle.certified,
        reason="the student serves nothing: nothing can be broken",
        sentences=[f"{len(rows)} logged requests, {replayed} of them replayed"],
        requests=len(rows),
        replayed=replayed,
        live=len(rows) - replayed,
    )
    if rows.empty:
        if bundle.certified:
            report.reason = "no logged request: evaluate the student on held-out requests first"
        return report
    _fill(report, rows, bundle)
    if bundle.certified:
        problem = _problem(report, bundle.target_agreement)
        report.passed, report.reason = problem is None, problem or _summary(report)
    return report


def _fill(report: OffPolicyReport, rows: pd.DataFrame, bundle: PolicyBundle) -> None:
    serves, p_serves, p_both = _choices(rows, bundle)
    agrees = rows["agrees"].to_numpy(float)
    clusters, groups = rows["cluster"].to_numpy(), rows["group_id"].to_numpy()
    features = _features(rows, serves, p_serves)

    def logged(reward: Floats, propensity: Floats) -> Logged:
        guess = outcome_model(reward, propensity, features, groups, clusters=clusters)
        return Logged(reward, propensity, guess)

    def over(part: Logged, within: Logged | None = None) -> Estimate | None:
        try:
            return estimate(
                part.reward, part.propensity, part.predicted, within=within, clusters=clusters
            )
        except ValueError:
            return None

    served = logged(serves, p_serves)
    report.share_served = over(served)
    # Whether a served answer agrees takes the frontier's answer; an escalated one costs nothing.
    right = np.where(serves == 0, 0.0, serves * agrees)
    report.agreement = over(logged(right, np.where(serves == 0, p_serves, p_both)), served)
    _fill_quality(report, rows, serves, p_serves, p_both, logged, over)
    frontier_usd, unit = rows["frontier_usd"].to_numpy(float), bundle.student_usd_per_request
    alone = logged(frontier_usd, rows["p_frontier"].to_numpy(float))
    report.frontier_usd = over(alone)
    if unit is not None:
        asked = _asked(rows, bundle)
        twice = 1 - np.where(asked, serves, 0.0) * (1 - bundle.exploration_rate)
        report.usd = over(logged(np.where(asked, unit, 0.0) + twice * frontier_usd, p_both))
    _say(report)


def _asked(rows: pd.DataFrame, bundle: PolicyBundle) -> np.ndarray:
    student = {group.group_id for group in bundle.groups if group.arm == "student"}
    return rows["group_id"].isin(student).to_numpy()


def _choices(rows: pd.DataFrame, bundle: PolicyBundle) -> tuple[Floats, Floats, Floats]:
    """Whether the policy serves, the chance that this is known, and that both answers are."""
    asked = _asked(rows, bundle)
    p_student, p_frontier = (rows[f"p_{arm}"].to_numpy(float) for arm in ("student", "frontier"))
    serves = np.where(asked, rows["serves"].to_numpy(float), 0.0)
    p_serves = np.where(asked, p_student, 1.0)
    return serves, p_serves, np.where(asked, np.minimum(p_student, p_frontier), p_frontier)


def _features(rows: pd.DataFrame, serves: Floats, p_serves: Floats) -> Floats:
    """What is known of every request before the coin falls."""
    surely = np.where(p_serves == 1, np.nan_to_num(serves), 0.0)
    group = pd.get_dummies(rows["group_id"]).to_numpy(float)
    return np.column_stack([np.log1p(rows["length"].to_numpy(float)), surely, p_serves < 1, group])


def _fill_quality(report, rows, serves, p_serves, p_both, logged, over) -> None:  # noqa: ANN001
    student, frontier = (rows[f"{arm}_quality"].to_numpy(float) for arm in ("student", "frontier"))
    reward = np.where(serves == 1, student, np.where(serves == 0, frontier, np.nan))
    seen = np.where(serves == 1, p_serves, p_both)
    there = np.where(serves == 1, rows["serves"].notna(), rows["frontier_usd"].notna())
    known = float(np.isfinite(reward[there & np.isfinite(serves)]).mean()) if there.any() else 0.0
    if known < MIN_KNOWN:
        report.sentences.append("quality is not known: too few of the answers were scored")
        return
    report.quality = over(logged(reward, seen * known))


MIN_KNOWN = 0.2


def _say(report: OffPolicyReport) -> None:
    parts = {
        "the student would answer": (report.share_served, 100, "%"),
        "agreement of what it answers": (report.agreement, 100, "%"),
        "quality of what goes out": (report.quality, 100, "%"),
        "USD for 1,000 requests": (report.usd, 1000, ""),
        "USD for 1,000 requests, frontier alone": (report.frontier_usd, 1000, ""),
    }
    for name, (found, unit, mark) in parts.items():
        if found is not None:
            snips, low, high = (v * unit for v in (found.snips, found.snips_low, found.snips_high))
            dr, dr_low, dr_high = (v * unit for v in (found.dr, found.dr_low, found.dr_high))
            report.sentences.append(
                f"{name}: {dr:.2f}{mark} [{dr_low:.2f}, {dr_high:.2f}] doubly robust, "
                f"{snips:.2f}{mark} [{low:.2f}, {high:.2f}] SNIPS; effective sample "
                f"{found.effective:.0f}, largest weight {found.max_weight:.1f}"
            )


def _problem(report: OffPolicyReport, target: float) -> str | None:
    found, share = report.agreement, report.share_served
    if share is None:
        return "of no logged request is it known whether the student would answer it"
    if weak := refusal(share.effective, share.max_weight):
        return weak
    if found is None:
        return "no logged request that the student would answer was answered by the frontier, too"
    if found.max_weight > share.max_weight and (weak := refusal(MIN_OK, found.max_weight)):
        return weak
    high = min(found.dr_high, found.snips_high)
    if high < target:
        return (
            f"agreement of what the student would answer is {found.dr:.3f} and at most "
            f"{high:.3f} (95%), promised is {target:.3f}"
        )
    return None


MIN_OK = float("inf")


def _summary(report: OffPolicyReport) -> str:
    found = report.agreement
    return f"agreement {found.dr:.3f} [{found.dr_low:.3f}, {found.dr_high:.3f}]" if found else ""
