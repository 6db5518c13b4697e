"""Everything that the summary and the page show, in one object.

Not here: reading it from the store (``gather.py``).
"""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pydantic import BaseModel, Field

from loop_pipeline.confidence.ceiling import Ceiling
from loop_pipeline.costs.attribution import CostNumbers

UNASSIGNED = "unassigned"
LEXICAL = "lexical agreement (ROUGE-L >= 0.8, same numbers)"
# The kinds of pairs in words.
LESSONS = {
    "sft": "answers to learn from",
    "dpo": "edits",
    "kto_pos": "good answers",
    "kto_neg": "refusals",
}
Part = Literal["agreement", "coverage", "groups", "costs", "curves", "loss", "clusters", "quality"]


class Agreement(BaseModel):
    """Share of held-out answers that agree with the frontier, with its exact 95% interval."""

    name: str
    value: float
    low: float
    high: float
    n: int
    reference: float | None = None
    lexical: bool = False
    ceiling: Ceiling | None = None


class Coverage(BaseModel):
    """Share of all requests that the student may answer, with and without a certificate."""

    target: float
    delta: float
    certified: float
    most: float | None = Field(default=None, description="What no method could go beyond.")
    promised: str = Field(default="", description="In words, where it is no fixed share.")
    achieved: float | None = None
    achieved_agreement: float | None = None
    uncertified: float | None = None
    uncertified_agreement: float | None = None


class GroupNumbers(BaseModel):
    """One task group: who answers it, how well, for how much (USD a request)."""

    group_id: str
    name: str
    task: str | None = None
    size: int
    arm: Literal["student", "frontier"]
    threshold: float | None = None
    coverage: float = 0.0
    agreement: float | None = None
    agreement_low: float | None = None
    n: int = 0
    frontier_usd: float | None = None
    routed_usd: float | None = None
    reason: str = ""
    lexical: bool = False
    ceiling: Ceiling | None = None
    most: float | None = None

    @property
    def cost_ratio(self) -> float | None:
        """Cost as routed over the frontier's, escalations and wasted student calls included."""
        if self.routed_usd is None or not self.frontier_usd:
            return None
        return self.routed_usd / self.frontier_usd


class RiskCurve(BaseModel):
    """Disagreement among the accepted answers of one group, from strict to loose thresholds."""

    group: str
    points: list[tuple[float, float]] = Field(description="(coverage, disagreement), shares")
    certified: tuple[float, float] | None = None


class Served(BaseModel):
    """One question that the deployed student answered through the real server."""

    question: str
    answer: str
    logprob_min: float | None = None
    latency_ms: float | None = None


class QualityCurve(BaseModel):
    """What each threshold of the quality score would keep of a task's answers."""

    name: str
    points: list[tuple[float, ...]] = Field(
        description="(threshold, kept share, precision, lower bound of the precision)"
    )
    threshold: float | None
    reason: str


class LoopNumbers(BaseModel):
    """One turn of the loop. What is not there yet stays empty; ``missing`` says why."""

    title: str
    simulated: bool
    traces: int = 0
    days: int = 0
    quarantined: int = 0
    pairs: dict[str, int] = {}
    flags: int = 0
    flagged_share: float = 0.0
    agreement: Agreement | None = None
    agreement_by_task: list[Agreement] = []
    reference_name: str = Field(
        default="", description="What `reference` is: the champion or the base."
    )
    coverage: Coverage | None = None
    groups: list[GroupNumbers] = []
    costs: CostNumbers | None = None
    risk_curves: list[RiskCurve] = []
    loss: list[tuple[int, float]] = []
    quality: list[QualityCurve] = []
    clusters: list[tuple[float, float, str]] = Field(default=[], description="(x, y, group name)")
    served: Served | None = None
    student_adapter: str | None = None
    checkpoint_id: str | None = None
    dataset_id: str | None = None
    mlflow_run_id: str | None = None
    policy_sha: str | None = None
    quality_version: str | None = None
    prices: str | None = Field(default=None, description="Which prices costs rest on.")
    timings: dict[str, float] = Field(default={}, description="Seconds by step.")
    notes: list[str] = []
    warnings: list[str] = Field(
        default=[], description="What a reader has to know first, each with what to do about it."
    )
    missing: dict[Part, str] = {}

    def why(self, part: Part) -> str:
        """Why a part is empty."""
        return self.missing.get(part, "nothing recorded yet")

    @property
    def ceiling(self) -> Ceiling | None:
        """How often the frontier agrees with itself, over all requests; None: not measured."""
        return self.agreement.ceiling if self.agreement else None

    @property
    def agreement_name(self) -> str:
        """What the headline agreement measures; text tasks never pass as exact."""
        lexical = [task.lexical for task in self.agreement_by_task]
        if self.agreement and (self.agreement.lexical or (lexical and all(lexical))):
            return LEXICAL
        return f"agreement; texts: {LEXICAL}" if any(lexical) else "agreement"


def cluster_points(
    members: pd.DataFrame, groups: pd.DataFrame, *, limit: int = 1500
) -> list[tuple[float, float, str]]:
    """Points of the cluster map from the tables ``group_members`` and ``task_groups``.

    Args:
        members: columns group_id, x, y and prompt_id.
        groups: columns group_id and name.
        limit: an even sample, in order of prompt_id, keeps the page small.
    """
    named = members.merge(groups[["group_id", "name"]], on="group_id", how="left")
    named = named.fillna({"name": UNASSIGNED}).sort_values("prompt_id")
    named = named.iloc[:: max(1, -(-len(named) // limit))]
    return [
        (round(float(x), 4), round(float(y), 4), str(name))
        for x, y, name in zip(named["x"], named["y"], named["name"], strict=True)
    ]


def percent(value: float | None) -> str:
    """A share for people: ``81.2%``, two digits below one percent, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.2%}" if 0 < abs(value) < 0.01 else f"{value:.1%}"


def lessons(pairs: dict[str, int]) -> str:
    """What people's reactions have yielded, in words."""
    # What is good enough to learn from is also an example of a good answer: said once.
    counts = {k: n for k, n in pairs.items() if k != "kto_pos" or n != pairs.get("sft")}
    said = [f"{n:,} {LESSONS.get(kind, kind)}" for kind, n in sorted(counts.items(), key=_place)]
    return ", ".join(said) or "nothing to learn from yet: no answer has a trusted verdict"


def _place(lesson: tuple[str, int]) -> tuple[int, str]:
    kinds = list(LESSONS)
    return kinds.index(lesson[0]) if lesson[0] in LESSONS else len(kinds), lesson[0]


def money(usd: float) -> str:
    """An amount for people, in USD: two digits below a dollar."""
    return f"{usd:,.2f} USD" if usd >= 1 else f"{usd:.2g} USD"
