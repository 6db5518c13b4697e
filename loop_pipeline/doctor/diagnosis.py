"""What the doctor finds, and one plain sentence whether the router earns its keep.

Not here: how it is shown (``terminal_report.py``, ``html_report.py``).
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from loop_pipeline.doctor.controls import Comparison, Control, Interval
from loop_pipeline.doctor.curves import Curve

POLICY = "policy"
RANDOM = "random, same share"
LENGTH = "prompt length, same share"
SINGLE = "best single model per group"
ORACLE = "oracle"
MIX = "best mix of single models at the same cost"
RATIO = "USD, ratio"


class ModelLine(BaseModel):
    """One model on all scored requests; ``dominated_by``: what is provably better and cheaper."""

    name: str
    quality: Interval
    usd: float
    on_hull: bool
    dominated_by: str | None


class GroupLine(BaseModel):
    """What was certified for a group, and what it achieved on rows that nothing was fitted on.

    ``verdict``: kept, in doubt (below what is promised, which may be chance), broken (that cannot
    be chance), nothing served, not certified.
    """

    name: str
    model: str | None
    n: int
    threshold: float | None
    coverage: float
    certified_agreement: float | None
    scored: int
    served: int
    achieved: Interval | None
    verdict: str
    reason: str


class Diagnosis(BaseModel):
    """The whole report. ``earns`` is None where there is nothing that a router could earn."""

    source: str
    verdict: str
    earns: bool | None
    target: float
    delta: float
    rows: dict[str, int]
    reference: str
    weak: str
    measure: str
    models: list[ModelLine]
    routers: list[Control]
    comparisons: list[Comparison]
    groups: list[GroupLine]
    risk_coverage: list[tuple[float, float]]
    certified_point: tuple[float, float] | None
    curves: list[Curve]
    apgr_over_length: Interval | None
    self_agreement: Interval | None
    self_agreement_pairs: int
    warnings: list[str]
    notes: list[str]

    def to_json(self) -> str:
        """The report as JSON, to twelve decimals: digits beyond depend on the order of sums."""
        return json.dumps(_rounded(self.model_dump()), indent=2, allow_nan=False)

    def router(self, name: str) -> Control:
        """The line of one router."""
        return next(line for line in self.routers if line.name == name)

    def beside(self, name: str, what: str) -> Interval | None:
        """The policy less a control in one figure."""
        found = (c for c in self.comparisons if (c.control, c.what) == (name, what))
        return next((c.difference for c in found), None)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return round(value, 12) + 0.0 if isinstance(value, float) else value


def share(found: Interval | None) -> str:
    """A share with its interval."""
    if found is None:
        return "–"
    return f"{found.value:.1%} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def points(found: Interval) -> str:
    """A difference of shares with its interval, in points."""
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def warnings_of(report: Diagnosis) -> list[str]:
    """What must not be overlooked: broken promises, and a target above what can be had."""
    found = [
        f"{group.name}: {report.target:.0%} is promised, {share(group.achieved)} was achieved on "
        f"{group.served:,} requests: the promise is broken"
        for group in report.groups
        if group.verdict == "broken"
    ]
    own = report.self_agreement
    if own is not None and own.value < report.target:
        found.append(
            f"{report.reference} agrees with itself in {share(own)} of "
            f"{report.self_agreement_pairs:,} requests it answered twice: a target of "
            f"{report.target:.0%} is above that"
        )
    return found


def verdict_of(report: Diagnosis) -> tuple[bool | None, str]:
    """Whether the router earns its keep (None: nothing could), and the sentence that says so."""
    policy = report.router(POLICY)
    if report.weak == report.reference:
        return None, _nothing_to_route(report)
    if any(group.verdict == "broken" for group in report.groups):
        names = ", ".join(group.name for group in report.groups if group.verdict == "broken")
        return False, f"It does not: its promise is broken in {names}. {_sentence(report)}"
    if policy.agreement is None:
        return False, _nothing_certified(report)
    if policy.share_away == 1:
        return False, (
            f"It does not: it sends everything away from {report.reference}, for which no router "
            f"is needed. {_sentence(report)}"
        )
    against = _failing(report)
    if against:
        return False, f"It does not: {against}. {_sentence(report)}"
    return True, f"It earns its keep: {_figures(report)}."


def _failing(report: Diagnosis) -> str | None:
    """The first control that the policy is not shown to beat."""
    for name, words in ((RANDOM, "a coin"), (LENGTH, "prompt length alone")):
        gap = report.beside(name, "agreement")
        if gap is not None and gap.low <= 0:
            how = "does better" if gap.high < 0 else "does as well, as far as these rows can tell"
            return f"{words} {how}"
    better, ratio = report.beside(SINGLE, report.measure), report.beside(SINGLE, RATIO)
    if better is not None and ratio is not None and better.low <= 0 and ratio.high >= 1:
        return "it is neither cheaper nor better than the best single model of each group"
    mix = report.beside(MIX, report.measure)
    if mix is not None and mix.high < 0:
        return f"a mix of single models at the same cost is better by {points(mix)[1:]}"
    return None


def _figures(report: Diagnosis) -> str:
    """What decides, with its uncertainty."""
    policy = report.router(POLICY)
    if policy.agreement is None:
        return f"nothing goes away from {report.reference}"
    beside = []
    for name, words in ((RANDOM, "random"), (LENGTH, "prompt length")):
        other, gap = report.router(name).agreement, report.beside(name, "agreement")
        if other is not None and gap is not None:
            beside.append(f"{words} {other.value:.1%} ({points(gap)})")
    parts = [
        f"of the {policy.share_away:.1%} of calls that it sends to a cheaper model "
        f"{share(policy.agreement)} agree",
        f"at the same share {', '.join(beside)}",
    ]
    ratio, better = report.beside(SINGLE, RATIO), report.beside(SINGLE, report.measure)
    if ratio is not None and better is not None:
        parts.append(
            f"it costs {share(ratio)} of the best single model per group, {report.measure} "
            f"{points(better)}"
        )
    return "; ".join(parts)


def _sentence(report: Diagnosis) -> str:
    figures = _figures(report)
    return f"{figures[0].upper()}{figures[1:]}."


def _nothing_to_route(report: Diagnosis) -> str:
    best = next(line for line in report.models if line.name == report.reference)
    others = [line for line in report.models if line.name != report.reference]
    proven = all(line.dominated_by for line in others)
    rest = "; ".join(
        f"{line.name} {share(line.quality)} at {1000 * line.usd:.3f} USD" for line in others
    )
    return (
        f"There is nothing to route: {best.name} is cheaper and better "
        f"({share(best.quality)} at {1000 * best.usd:.3f} USD per 1,000 requests; {rest}"
        f"{'' if proven else '; the difference may be chance'}). Route nothing away from it."
    )


def _nothing_certified(report: Diagnosis) -> str:
    largest = max(report.groups, key=lambda group: group.n, default=None)
    why = f" ({largest.name}: {largest.reason})" if largest else ""
    text = (
        f"It does not: in no group can {report.target:.0%} agreement be promised{why}, so that "
        f"everything goes to {report.reference}."
    )
    curves = {curve.name: curve for curve in report.curves}
    score, length = curves["score"].apgr, curves["prompt length"].apgr
    gap = report.apgr_over_length
    if score is None or length is None or gap is None:
        return text
    worth = (
        "is worth more than prompt length" if gap.low > 0 else "is not shown to beat prompt length"
    )
    calls = ", ".join(f"{n} {c.cpt50:.1%}" for n, c in curves.items() if c.cpt50 is not None)
    bill = ", ".join(f"{n} {c.bill:.1%}" for n, c in curves.items() if c.bill is not None)
    return (
        f"{text} Without a promise the score {worth}: APGR {score.value:.3f} "
        f"[{score.low:.3f}, {score.high:.3f}], length {length.value:.3f} (difference "
        f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]), random 0.500. Half of the gap takes "
        f"this share of strong calls: {calls}; and of their bill: {bill}."
    )
