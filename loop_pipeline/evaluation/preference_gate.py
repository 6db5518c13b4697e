"""Whether the adapter of a preference stage replaces the one it was made from.

Not here: the comparison with the champion (``gate.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel

# DPO and its kin are reported to damage the confidence that routing lives on (arXiv 2603.06604).
NOT_WORSE = {"validity": 1, "ece": -1, "certified_coverage": 1}  # sign: which way is better


class StageMetrics(BaseModel):
    """One adapter on held-out traffic; both adapters answer the same requests.

    Coverage is that of validation rows. On calibration rows the adapter that is kept is certified
    afterwards: were it chosen by them as well, its promise would be broken more often than said.
    """

    hallucination_rate: float | None
    validity: float | None
    ece: float | None
    certified_coverage: float | None

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Self:
        """From the figures of a contest; what they lack was not measured."""
        return cls(
            hallucination_rate=metrics.get("hallucination"),
            validity=metrics.get("validity"),
            ece=metrics.get("ece"),
            certified_coverage=metrics.get("validation_coverage"),
        )


class Kept(BaseModel):
    """Whether the second stage is kept, and why."""

    keep: bool
    reasons: list[str]


def keep_preference_stage(a: StageMetrics, b: StageMetrics) -> Kept:
    """Keep stage B only if it hallucinates less and costs nothing else.

    The supervised adapter is the default: a figure that is missing, or a tie in hallucination,
    decides for it.

    Args:
        a: Of the supervised adapter.
        b: Of the adapter that the preference stage has made of it.

    Returns:
        The decision; its reasons give both figures of everything that was compared.
    """
    wanted = {"hallucination_rate": -1, **NOT_WORSE}
    keep, reasons = True, []
    for name, sign in wanted.items():
        before, after = getattr(a, name), getattr(b, name)
        if before is None or after is None:
            keep = False
            reasons.append(f"{name} was not measured")
            continue
        gain = sign * (after - before)
        good = gain > 0 if name == "hallucination_rate" else gain >= 0
        keep = keep and good
        word = "better" if gain > 0 else "the same" if gain == 0 else "worse"
        reasons.append(f"{name} {before:.4f} -> {after:.4f}: {word}")
    return Kept(keep=keep, reasons=reasons)
