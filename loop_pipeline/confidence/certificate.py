"""The promise of one task group, with the reason when none can be made.

Not here: which model a group goes to (``routing/offers.py``).
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from loop_pipeline.stats.binomial import clopper_pearson, lower_bound, smallest_certifiable
from loop_pipeline.stats.fixed_sequence import Right, Scores, bounded_threshold

# Fields that schema versions 2 and 3 added.
LATER_FIELDS = frozenset(
    {"canary", "expires", "prices", "others", "model", "offers", "floor", "app"}
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


class Certificate(Document):
    """Serve answers scoring at least ``threshold``; None sends the whole group to the frontier."""

    threshold: Threshold | None
    n: Count
    accepted: Count
    errors: Count
    coverage: Share
    agreement: Share | None
    agreement_lower: Share | None
    reason: str


def shared_delta(delta: float, groups: int, recalibration: int) -> float:
    """Chance of a broken promise one group may spend at its t-th recalibration (t from 1).

    Summed over all groups and all recalibrations there will ever be, it is at most ``delta``.
    """
    return delta / max(groups, 1) * 6 / (math.pi**2 * recalibration**2)


def promise_state(
    good: int, n: int, *, target: float, delta: float, groups: int
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


def certify_group(conf: Scores, agree: Right, alpha: float, delta: float) -> Certificate:
    """The loosest threshold that keeps disagreement among accepted answers at most ``alpha``.

    With chance at least 1 - delta over the draw of these rows, while traffic stays like them.

    Args:
        conf: shape (n,), higher is surer; NaN for an answer the router would never serve.
        agree: shape (n,), whether the student's answer agreed with the frontier's.
        alpha: largest share of disagreement among accepted answers.
        delta: allowed chance that the promise is broken.
    """
    finite = np.isfinite(conf)
    usable, right = conf[finite], agree[finite].astype(bool)
    need = smallest_certifiable(alpha, delta)
    threshold = None
    if len(usable) < need:
        missing = need - len(usable)
        reason = f"has {len(usable)} calibration rows, needs at least {need}: {missing} missing"
    elif np.ptp(usable) == 0:
        reason = "all scores are equal, so they cannot tell good answers from bad ones"
    else:
        threshold = bounded_threshold(usable, right, alpha=alpha, delta=delta)
        start = max(len(usable) // 2, need)
        surest = right[np.argsort(-usable, kind="stable")[:start]].mean()
        reason = "certified"
        if threshold is None:
            lack = "agreement is too low" if surest < 1 - alpha else "agreement is not proved"
            reason = (
                f"{lack}: {surest:.3f} of its {start} surest rows agree, "
                f"not enough to promise {1 - alpha:.3f}"
            )
    accepted = usable >= threshold if threshold is not None else np.zeros(len(usable), dtype=bool)
    count, good = int(accepted.sum()), int((accepted & right).sum())
    return Certificate(
        threshold=threshold,
        n=len(conf),
        accepted=count,
        errors=count - good,
        coverage=count / max(len(conf), 1),
        agreement=good / count if count else None,
        agreement_lower=lower_bound(good, count, delta) if count else None,
        reason=reason,
    )
