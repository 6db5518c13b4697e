"""The ceiling of a group: how often the frontier agrees with itself, in figures and in words.

Not here: finding requests that it answered twice (``frontier_twice.py``), and a promise that is
made relative to the ceiling (``relative_certificate.py``).

No router can agree more often with one answer of the frontier than the frontier's own next answer
would, unless it says what the frontier says most of the time: a student that always does agrees a
little more often. So the ceiling is what a target is to be held against, not a limit to the digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loop_pipeline.confidence.certificate import Count, Document, Share
from loop_pipeline.stats.binomial import clopper_pearson

NOT_MEASURED = "not measured"
# As a reason begins that only says that the target was missed; the longer one first.
LACKS = ("agreement is too low", "agreement is not proved yet", "agreement is not proved")


class Ceiling(Document):
    """In how many requests that the frontier answered twice both answers say the same.

    ``drawn``: a coin asked for the second answer. Otherwise these are requests that came more than
    once: what is asked often is easier than the rest, so the ceiling of the rest is lower.
    """

    asked: Count
    agreed: Count
    low: Share
    high: Share
    drawn: bool

    @property
    def value(self) -> float:
        """The share."""
        return self.agreed / self.asked


def ceiling_of(same: Sequence[bool], units: Sequence[str], *, drawn: bool) -> Ceiling | None:
    """The ceiling with its 95% interval; None without a row.

    Rows of a unit (a conversation) resemble each other: they count as fewer rows, by the design
    effect of the units' sums, before the exact interval is taken.

    Args:
        same: whether the two answers to a request say the same.
        units: which unit each request belongs to.
        drawn: see ``Ceiling``.
    """
    n, agreed = len(same), sum(map(bool, same))
    if not n:
        return None
    fewer = max(1, int(n / _design_effect(same, units)))
    low, high = clopper_pearson(round(agreed / n * fewer), fewer)
    return Ceiling(asked=n, agreed=agreed, low=low, high=high, drawn=drawn)


def _design_effect(same: Sequence[bool], units: Sequence[str]) -> float:
    """How much wider the units make the error of the mean than independent rows would."""
    values, (_, unit) = np.asarray(same, dtype=float), np.unique(units, return_inverse=True)
    n, mean, many = len(values), values.mean(), int(unit.max()) + 1
    spread = mean * (1 - mean) * n
    if many < 2 or not spread:
        # One unit, or all rows alike: nothing can be seen of it, so each unit is one row.
        return n / many
    sums = np.bincount(unit, weights=values - mean)
    return max(1.0, float((sums**2).sum()) * many / (many - 1) / spread)


def ceiling_words(ceiling: Ceiling | None) -> str:
    """The ceiling as it stands beside an agreement: one wording wherever people read it."""
    if ceiling is None:
        return f"ceiling (how often the frontier agrees with itself): {NOT_MEASURED}"
    return f"ceiling: {_itself(ceiling)}"


def _itself(ceiling: Ceiling) -> str:
    whom = "asked twice" if ceiling.drawn else "that came more than once (the easier ones)"
    return (
        f"the frontier agrees with itself in {ceiling.value:.1%} "
        f"[{ceiling.low:.1%}, {ceiling.high:.1%}] of {ceiling.asked:,} requests {whom}"
    )


def with_ceiling(reason: str, ceiling: Ceiling | None, target: float) -> str:
    """Why a group has no certificate, as its ceiling lets it be said.

    Where the frontier does not reach the target with its own next answer, a student is not to be
    blamed for missing it, and more rows or more training would not help.

    Args:
        reason: as ``certificate.certify_group`` gives it.
        ceiling: of the group.
        target: share of agreement that was to be promised.
    """
    if ceiling is None or ceiling.value >= target:
        return reason
    sure = "is" if ceiling.high < target else "may be"
    said = f"the target of {target:.1%} {sure} above the ceiling: {_itself(ceiling)}"
    lack = next((lack for lack in LACKS if reason.startswith(lack)), None)
    if lack is None:
        return f"{reason}; and {said}"
    return f"{said}; of the student {reason.removeprefix(lack).removeprefix(': ')}"
