"""The promise of one task group, with the reason when none can be made.

Not here: which model a group goes to (``routing/offers.py``), and what becomes of a promise when
new rows come (``routing/standing.py``).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from loop_pipeline.confidence.usable_rows import UsableRows, usable_rows
from loop_pipeline.stats.binomial import clopper_pearson, smallest_certifiable
from loop_pipeline.stats.fixed_sequence import START, Right, Scores, bounded_threshold
from loop_pipeline.stats.units.design_effect import effective
from loop_pipeline.stats.units.traffic_evidence import evidence

# Fields that later schema versions added.
LATER_FIELDS = frozenset(
    {"canary", "expires", "prices", "others", "model", "offers", "floor", "app"}
    | {"worth", "grid", "round", "share", "subject", "units"}
    | {"ceiling", "margin", "least"}
)
ABSENT = (None, [], 0.0, "")

# Log-odds, sums of log-probabilities and lengths of requests all lie far within it; a threshold
# beyond it serves everything, or nothing.
FARTHEST_SCORE = 1e6

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Usd = Annotated[float, Field(ge=0)]
Threshold = Annotated[float, Field(ge=-FARTHEST_SCORE, le=FARTHEST_SCORE)]


class Document(BaseModel):
    """A frozen part of a policy; fields that a later schema added stay out while they are empty."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_absent(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A document of an earlier version keeps its bytes, and with them its sha256.
        plain: dict[str, Any] = rest(self)
        return {k: v for k, v in plain.items() if k not in LATER_FIELDS or v not in ABSENT}


CERTIFIED = "certified"


class Certificate(Document):
    """Serve answers scoring at least ``threshold``; None sends the whole group to the frontier.

    Counts are of requests as they were asked, repeats included. ``worth``: how many independent
    ones the accepted are worth, None: all. The others say how it goes on when rows come:
    ``subject`` is what it speaks about, ``round`` the round of tests it is of, ``share`` the chance
    it was given, ``grid`` the thresholds that later rows are held against. ``least``: of a promise
    relative to the ceiling, the agreement below which it is surely broken.
    """

    threshold: Threshold | None
    n: Count
    accepted: Count
    errors: Count
    coverage: Share
    agreement: Share | None
    agreement_lower: Share | None
    reason: str
    worth: float | None = None
    grid: list[Threshold] = Field(default_factory=list)
    round: Count = 0
    share: Share = 0.0
    subject: str = ""
    least: Share | None = None


def shared_delta(delta: float, groups: int, round_: int) -> float:
    """Chance of a broken promise of one of the groups that are tested in the t-th round (t from 1).

    Summed over all groups and all rounds there will ever be, it is at most ``delta``.
    """
    return delta / max(groups, 1) * 6 / (math.pi**2 * round_**2)


def promise_state(
    good: float, n: float, *, target: float, delta: float, groups: int
) -> Literal["kept", "in doubt", "broken", "nothing served"]:
    """What the served answers of one group say about its promise.

    The rows must be ones that nothing was fitted on. All groups share ``delta``: with chance at
    most ``delta`` any of them is called broken although its promise holds.

    Args:
        good: served answers that agreed with the frontier's.
        n: served answers.
        target: promised share of agreement.
        delta: chance that all verdicts together may be wrong with.
        groups: how many groups get a verdict.

    Returns:
        ``in doubt`` is below what is promised, which may be chance; ``broken`` cannot be chance.
    """
    if n == 0:
        return "nothing served"
    if good / n >= target:
        return "kept"
    # The upper end of a two-sided interval: its level leaves delta / groups on this side.
    most = clopper_pearson(good, n, 1 - 2 * delta / max(groups, 1))[1]
    return "broken" if most < target else "in doubt"


def certify_group(
    conf: Scores,
    agree: Right,
    alpha: float,
    delta: float,
    *,
    unit: ArrayLike | None = None,
    times: ArrayLike | None = None,
    start: float = START,
) -> Certificate:
    """The loosest threshold that keeps disagreement in the traffic it accepts at most ``alpha``.

    With chance at least 1 - delta over the draw of these rows, while traffic stays like them.

    Args:
        conf: shape (n,), higher is surer; NaN for an answer the router would never serve.
        agree: shape (n,), whether the student's answer agreed with the frontier's.
        alpha: largest share of disagreement among accepted answers.
        delta: allowed chance that the promise is broken.
        unit: shape (n,), names of what rows belong to that err together; None: each by itself.
        times: shape (n,), how often each request was asked; None: once.
        start: share of the rows that the strictest threshold tried accepts.
    """
    rows = usable_rows(conf, agree, unit, times)
    need = smallest_certifiable(alpha, delta)
    threshold = None
    if lack := _too_few(rows, alpha, delta):
        reason = lack
    else:
        threshold = bounded_threshold(
            rows.score,
            rows.right,
            alpha=alpha,
            delta=delta,
            unit=rows.code,
            times=rows.times,
            start=start,
        )
        first = max(math.floor(len(rows.score) * start), need)
        reason = CERTIFIED if threshold is not None else _refused(rows, first, alpha)
    return Certificate(
        threshold=threshold, reason=reason, **figures_at(rows, threshold, alpha, delta)
    )


def figures_at(
    rows: UsableRows, threshold: float | None, alpha: float, delta: float
) -> dict[str, Any]:
    """The figures of a certificate with this threshold, by the names of its fields."""
    accepted = rows.score >= threshold if threshold is not None else np.zeros(len(rows.score), bool)
    count = int(rows.times[accepted].sum())
    good = int(rows.times[accepted & rows.right].sum())
    worth = least = None
    if count:
        order = np.argsort(-rows.score, kind="stable")
        found = evidence(
            ~rows.right[order], rows.code[order], rows.times[order], alpha=alpha, delta=delta
        )
        last = int(accepted.sum()) - 1
        least, worth = found.least_agreement(last, delta), round(float(found.rows[last]), 1)
    return {
        "n": rows.asked,
        "accepted": count,
        "errors": count - good,
        "coverage": count / max(rows.asked, 1),
        "agreement": good / count if count else None,
        "agreement_lower": least,
        "worth": None if worth == count else worth,
    }


def _too_few(rows: UsableRows, alpha: float, delta: float) -> str:
    """Why no threshold is even tried; empty if one is."""
    usable, need = len(rows.score), smallest_certifiable(alpha, delta)
    if usable < need:
        never = f"; {rows.never} more have answers that are never served" if rows.never else ""
        missing = need - usable
        return f"has {usable} calibration rows, needs at least {need}: {missing} missing{never}"
    if np.ptp(rows.score) == 0:
        return "all scores are equal, so they cannot tell good answers from bad ones"
    found = evidence(~rows.right, rows.code, rows.times, alpha=alpha, delta=delta)
    if found.units[-1] >= need:
        return ""
    name, share = rows.largest()
    return (
        f"its {usable} calibration rows are worth {found.units[-1]:.0f} independent ones, needs at "
        f"least {need}: {name} is {share:.0%} of them"
    )


def _refused(rows: UsableRows, first: int, alpha: float) -> str:
    """Why the strictest threshold, which accepts the first rows, has failed."""
    order = np.argsort(-rows.score, kind="stable")[:first]
    right, times = rows.right[order], rows.times[order]
    surest = float(right @ times / times.sum())
    lack = "agreement is too low" if surest < 1 - alpha else "agreement is not proved"
    worth = float(effective(~right, rows.code[order], times).rows)
    among = f" (worth {worth:.0f} independent ones)" if worth < first - 0.5 else ""
    return (
        f"{lack}: {surest:.3f} of its {first} surest rows agree{among}, "
        f"not enough to promise {1 - alpha:.3f}"
    )
