"""May this policy come into force? Estimated on logged requests before it decides any.

Not here: where the requests come from (``logged_requests.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from sqlalchemy import Engine

from loop_pipeline.confidence.request_score import RequestScore
from loop_pipeline.costs.unpriced import UNPRICED
from loop_pipeline.routing.evidence.logged_requests import logged_requests
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.stats.off_policy import (
    Estimate,
    Floats,
    Logged,
    estimate,
    outcome_model,
    refusal,
)
from loop_pipeline.stats.weighted.one_source import of

# Live requests are also looked at alone, for they are newer: a second look, so a surer one.
LIVE_LEVEL = 0.975
# Share of the answers whose quality has to be known for an estimate of it.
MIN_KNOWN = 0.2


class OffPolicyReport(BaseModel):
    """What the policy would do, how far that can be believed, and whether it may be put in force.

    ``agreement`` is among what a cheaper model would answer, ``live_agreement`` the same by live
    requests alone; ``overall`` (where the
    frontier's answers agree by definition), ``quality`` and ``usd`` (of one request) over all.
    What is None is not known. ``frontier_usd``: if the frontier answered everything. ``unpriced``:
    answers of the frontier whose cost nobody knows; with one of them no USD are estimated.
    """

    policy: str
    passed: bool
    reason: str
    requests: int
    replayed: int
    share_served: Estimate | None = None
    agreement: Estimate | None = None
    live_agreement: Estimate | None = None
    overall: Estimate | None = None
    quality: Estimate | None = None
    usd: Estimate | None = None
    frontier_usd: Estimate | None = None
    unpriced: int = 0

    @property
    def sentences(self) -> list[str]:
        """The report in words."""
        figures = {
            "a cheaper model would answer": (self.share_served, 100, "%"),
            "agreement of what it would answer": (self.agreement, 100, "%"),
            "the same by live requests alone": (self.live_agreement, 100, "%"),
            "quality of what would go out": (self.quality, 100, "%"),
            "USD for 1,000 requests": (self.usd, 1000, ""),
            "USD for 1,000 requests from the frontier alone": (self.frontier_usd, 1000, ""),
        }
        live = self.requests - self.replayed
        lines = [f"judged on {self.replayed:,} replayed and {live:,} live requests"]
        if self.overall is not None:
            lines[0] += (
                f", worth {self.overall.effective:,.0f} direct observations; "
                f"the largest weight is {self.overall.max_weight:.1f}"
            )
        for name, (found, unit, mark) in figures.items():
            if found is None:
                lines.append(f"{name}: not known")
                continue
            dr, low, high = (v * unit for v in (found.dr, found.dr_low, found.dr_high))
            lines.append(
                f"{name}: {dr:.2f}{mark} [{low:.2f}, {high:.2f}] doubly robust, "
                f"{found.snips * unit:.2f}{mark} SNIPS"
            )
        if self.unpriced:
            lines.append(f"{self.unpriced:,} answers of the frontier are {UNPRICED}")
        return [*lines, f"{'may' if self.passed else 'may not'} come into force: {self.reason}"]

    def to_json(self) -> str:
        """The report as JSON, with its sentences."""
        return json.dumps(self.model_dump() | {"sentences": self.sentences}, indent=2)


def check(
    engine: Engine, bundle: PolicyBundle, others: Sequence[Contender] = ()
) -> OffPolicyReport:
    """Judge a policy on the store's gold rows and its live, routed requests.

    It is refused if the rows are worth fewer than 200 direct observations, if one of them counts
    for more than 50, or if agreement is provably below what the policy promises (95% intervals of
    both estimators), by all rows or by live ones alone. Both are estimated apart and weighed by
    what each is worth. A policy that serves nothing but the frontier needs no evidence.

    Args:
        engine: the store.
        bundle: the policy; of a canary pass ``bundle.canary.policy``, it has a student of its own.
        others: the cheaper models of the policy besides the student, as it was fitted with them.
    """
    return estimate_on_rows(logged_requests(engine, bundle, others), bundle)


def estimate_on_rows(rows: pd.DataFrame, bundle: PolicyBundle) -> OffPolicyReport:
    """Judge a policy on rows as `logged_requests.logged_requests` gives them."""
    report = OffPolicyReport(
        policy=bundle.sha256,
        passed=False,
        reason="",
        requests=len(rows),
        replayed=int(rows["replayed"].sum()),
        unpriced=int((rows["frontier_answered"].astype(bool) & rows["frontier_usd"].isna()).sum()),
    )
    if len(rows):
        report = report.model_copy(update=_figures(rows, bundle))
    problem = _problem(report, bundle) if bundle.certified else None
    fine = "nothing speaks against it" if bundle.certified else "no cheaper model serves anything"
    return report.model_copy(update={"passed": problem is None, "reason": problem or fine})


def _figures(rows: pd.DataFrame, bundle: PolicyBundle) -> dict[str, Estimate | None]:
    asked, unit, called = _first_model(rows, bundle)
    p_model, p_frontier = (rows[f"p_{arm}"].to_numpy(float) for arm in ("model", "frontier"))
    serves = np.where(asked, rows["serves"].to_numpy(float), 0.0)
    p_serves = np.where(asked, p_model, 1.0)
    p_both = np.where(asked, np.minimum(p_model, p_frontier), p_frontier)
    # Whether a served answer agrees takes the frontier's, too; an escalated one agrees by itself.
    p_agrees = np.where(serves == 0, p_serves, p_both)
    right = np.where(serves == 0, 0.0, serves * rows["agrees"].to_numpy(float))
    clusters, groups = rows["cluster"].to_numpy(), rows["group_id"].to_numpy()
    sources = np.where(rows["replayed"].astype(bool), "replayed", "live")
    features = _features(rows, np.where(p_serves == 1, serves, np.nan))

    def logged(reward: Floats, propensity: Floats) -> Logged:
        guess = outcome_model(reward, propensity, features, groups, clusters=clusters)
        return Logged(reward, propensity, guess)

    def estimated(part: Logged, **more: Any) -> Estimate | None:
        return _estimate(part, clusters=clusters, sources=sources, **more)

    served, agreed = logged(serves, p_serves), logged(right, p_agrees)
    live = ~rows["replayed"].to_numpy(bool)
    found = {
        "share_served": estimated(served),
        "agreement": estimated(agreed, within=served),
        "live_agreement": _estimate(
            of(agreed, live), of(served, live), clusters=clusters[live], level=LIVE_LEVEL
        ),
        "overall": estimated(logged(1 - serves + right, p_agrees)),
    }
    paid = rows["frontier_usd"].to_numpy(float)
    answered = rows["frontier_answered"].to_numpy(bool)
    priced = bool(np.isfinite(paid[answered]).all())
    if priced:
        found["frontier_usd"] = estimated(logged(paid, p_frontier), share=False)
    quality, known = _quality(rows, serves)
    if known >= MIN_KNOWN:
        seen = np.where(serves == 1, p_serves, p_both) * known
        found["quality"] = estimated(logged(quality, seen))
    if priced and np.isfinite(unit).all():
        calls = np.where(called, 1.0, serves)
        twice = 1 - serves * (1 - bundle.exploration_rate)
        usd = calls * unit + twice * paid
        found["usd"] = estimated(logged(usd, p_both), share=False)
    return found


def _first_model(
    rows: pd.DataFrame, bundle: PolicyBundle
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.bool_]]:
    """Whether a cheaper model is first, its USD a call, and whether escalated requests pay it."""
    groups = {g.group_id: g for g in bundle.groups if g.arm == "student"}
    usd: dict[str | None, float | None] = {m.name: m.usd_per_request for m in bundle.others}
    usd[None] = bundle.student_usd_per_request
    before = {m.name for m in bundle.others if isinstance(m.score, RequestScore)}
    first = [groups.get(str(name)) for name in rows["group_id"]]
    unit = [0.0 if g is None else usd[g.model] for g in first]
    return (
        np.array([g is not None for g in first]),
        np.array([np.nan if u is None else u for u in unit], dtype=float),
        np.array([g is None or g.model not in before for g in first]),
    )


def _estimate(part: Logged, within: Logged | None = None, **more: Any) -> Estimate | None:
    """An estimate; None where nothing was observed."""
    seen = np.isfinite(part.reward)
    if not seen.any() or (within is not None and not within.reward[seen].any()):
        return None
    return estimate(*part, within=within, **more)


def _features(rows: pd.DataFrame, serves: Floats) -> Floats:
    """What is known of every request before the coin falls; NaN where ``serves`` needs it."""
    known = np.isfinite(serves)
    return np.column_stack(
        [
            np.log1p(rows["length"].to_numpy(float)),
            known,
            np.where(known, serves, 0.0),
            pd.get_dummies(rows["group_id"]).to_numpy(float),
        ]
    )


def _quality(rows: pd.DataFrame, serves: Floats) -> tuple[Floats, float]:
    """Quality of what would go out, and the share of the answers there are that has one.

    Which answers were scored is taken to be a matter of chance.
    """
    model, frontier = (rows[f"{arm}_quality"].to_numpy(float) for arm in ("model", "frontier"))
    there = np.where(serves == 1, True, (serves == 0) & rows["frontier_answered"].to_numpy(bool))
    quality = np.where(serves == 1, model, np.where(serves == 0, frontier, np.nan))
    return quality, float(np.isfinite(quality[there]).mean()) if there.any() else 0.0


def _problem(report: OffPolicyReport, bundle: PolicyBundle) -> str | None:
    if report.overall is None:
        return (
            "of no logged request it is known what the policy would do to it: evaluate its "
            "models on held-out requests first"
        )
    weak = refusal(report.overall.effective, report.overall.max_weight)
    if weak is not None or report.agreement is None:
        return weak
    target = bundle.target_agreement
    looks = ("", report.agreement), ("on live requests alone, ", report.live_agreement)
    for rows, found in looks:
        if found is not None and (high := max(found.dr_high, found.snips_high)) < target:
            return (
                f"{rows}agreement of what would be served is {found.dr:.3f} and at most "
                f"{high:.3f} ({100 * (LIVE_LEVEL if rows else 0.95):g}%), promised is {target:.3f}"
            )
    return None
