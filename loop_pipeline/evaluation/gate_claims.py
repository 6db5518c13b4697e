"""What has to hold for a candidate, one by one: the figure, whether it holds, and its sentence.

How they decide together is said in ``gate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.confidence.coverage import CoverageFigures
from loop_pipeline.stats.paired import RowsByUnit, bound_by_units, holm, worse_by_units

# A first student takes nobody's place: it has to keep its contracts in this share of the gold rows.
LEAST_CONTRACTS = 0.95
# Kinds of contract whose form an answer keeps or breaks, whatever it says.
FORMED = ("label", "tags", "json")


@dataclass(frozen=True)
class Claim:
    """One thing that has to hold."""

    holds: bool
    sentence: str


@dataclass(frozen=True)
class Guard:
    """A loss that refuses if it is significant; ``p`` is 1 where there is none to speak of."""

    p: float
    sentence: str
    worse: str

    def claim(self, adjusted: float, alpha: float) -> Claim:
        """Whether the loss, its p-value adjusted for the family, refuses."""
        holds = adjusted > alpha
        verdict = f"{'not ' if holds else ''}{self.worse}"
        return Claim(holds, f"{self.sentence}: {verdict} (p = {adjusted:.2g} after Holm).")


def agreement_figures(pair: pd.DataFrame, alpha: float) -> dict[str, Any]:
    """How often each of the two agrees on the same rows, and how sure the difference is."""
    rows, n = _gains(pair, "agrees"), len(pair)
    return {
        "n": n,
        "units": len(rows.sizes),
        "largest_unit": int(rows.sizes.max()),
        "worth": round(n / rows.design_effect(alpha), 1),
        "candidate_agreement": float(pair["agrees_new"].mean()),
        "rival_agreement": float(pair["agrees_old"].mean()),
        "difference": (rows.gained - rows.lost) / n,
        "lower_bound": bound_by_units(rows, alpha),
        "only_candidate_right": rows.gained,
        "only_rival_right": rows.lost,
        "p_better": worse_by_units(_gains(pair, "agrees", sign=-1)),
        "p_worse": worse_by_units(rows),
    }


def _gains(pair: pd.DataFrame, what: str, sign: int = 1) -> RowsByUnit:
    """What the candidate gained on each row, by unit; ``sign`` -1: what it lost."""
    gain = pair[f"{what}_new"].astype(int) - pair[f"{what}_old"].astype(int)
    return RowsByUnit.of(sign * gain, pair["unit"])


def _rows(figures: Mapping[str, Any]) -> str:
    """How many gold rows there are, and what they are worth if some belong together."""
    n, units = figures["n"], figures["units"]
    if units == n:
        return f"{n} gold rows"
    if figures["lower_bound"] == -1 and figures["largest_unit"] > 1:
        return (
            f"{n} gold rows in {units} units (conversations, near-duplicates), the largest of"
            f" which has {figures['largest_unit']}: too few units of even size"
        )
    return f"{n} gold rows in {units} units, worth {figures['worth']:.0f} independent rows"


def not_worse(
    figures: dict[str, Any], name: str, margin: float, worst: float, alpha: float
) -> list[Claim]:
    """No observed loss beyond ``margin``, and one of ``worst`` ruled out."""
    difference, low = figures["difference"], figures["lower_bound"]
    observed = Claim(
        difference >= -margin - 1e-12,
        f"Agreement is {figures['candidate_agreement']:.1%}, {name}'s"
        f" {figures['rival_agreement']:.1%}, on the same {figures['n']} gold rows:"
        f" {_points(difference)}"
        f" ({_points(-margin)} is tolerated).",
    )
    ruled_out = low > -worst
    text = f"At {1 - alpha:.0%} confidence the difference is above {_points(low)}; " + (
        f"a loss of {worst * 100:g} points is ruled out."
        if ruled_out
        else f"a loss of {worst * 100:g} points cannot be ruled out with {_rows(figures)}."
    )
    return [observed, Claim(ruled_out, text)]


def as_good(figures: dict[str, Any], name: str, alpha: float) -> Claim:
    """Not significantly worse than a base that was made from the same traffic."""
    good = figures["p_worse"] > alpha
    return Claim(
        good,
        f"There is no champion. Agreement is {figures['candidate_agreement']:.1%}, {name}'s, which"
        f" was made from the same traffic, {figures['rival_agreement']:.1%} on the same"
        f" {_rows(figures)}: the candidate is {'not ' if good else ''}significantly worse"
        f" (exact test of units, p = {figures['p_worse']:.2g}).",
    )


def better(figures: dict[str, Any], name: str, alpha: float) -> Claim:
    """Significantly better than a base that knows nothing of the traffic."""
    holds = figures["p_better"] <= alpha
    return Claim(
        holds,
        f"There is no champion. Agreement is {figures['candidate_agreement']:.1%}, {name}'s"
        f" {figures['rival_agreement']:.1%} on the same {_rows(figures)}: the candidate is"
        f" {'' if holds else 'not '}significantly better (exact test of units, p ="
        f" {figures['p_better']:.2g}).",
    )


def certifiable(coverage: CoverageFigures, name: str) -> Claim:
    """What is said where only one of the two has a certified coverage."""
    if coverage.candidate is None:
        return Claim(False, f"No certificate can be computed for the candidate: {coverage.note}.")
    return Claim(
        True,
        f"Certified coverage is {coverage.candidate:.1%} of {coverage.n} calibration requests;"
        f" {name}'s is not known ({coverage.note}), so that nothing is compared.",
    )


def keeps_contracts(pair: pd.DataFrame, figures: dict[str, Any], name: str) -> Guard:
    """Answers that break their contract more often."""
    new, old, p = _shares(pair, "valid", good=True)
    figures |= {"candidate_validity": new, "rival_validity": old, "p_validity_lower": p}
    text = f"{new:.1%} of the answers keep their contract, {name}'s {old:.1%}"
    return Guard(p, text, "significantly lower")


def truthful(pair: pd.DataFrame, figures: dict[str, Any], name: str) -> Guard:
    """Answers that are flagged as hallucinated more often."""
    new, old, p = _shares(pair, "flagged", good=False)
    figures |= {"candidate_flagged": new, "rival_flagged": old, "p_flagged_higher": p}
    text = f"{new:.1%} of the answers are flagged as hallucinated, {name}'s {old:.1%}"
    return Guard(p, text, "significantly more")


def _shares(pair: pd.DataFrame, what: str, *, good: bool) -> tuple[float, float, float]:
    """Shares of the candidate's and the rival's answers, and how sure the candidate is no worse."""
    p = worse_by_units(_gains(pair, what, sign=1 if good else -1))
    return float(pair[f"{what}_new"].mean()), float(pair[f"{what}_old"].mean()), p


def no_group_worse(
    pair: pd.DataFrame, groups: pd.Series, figures: dict[str, Any], margin: float, smallest: int
) -> Guard:
    """Groups with enough rows that lost more than the margin (exact by unit, Holm within them)."""
    member = groups.reindex(pair.index)
    rows = []
    for group, part in pair.groupby(member, sort=True):
        if len(part) >= smallest:
            own = _gains(part, "agrees")
            difference, p = (own.gained - own.lost) / len(part), worse_by_units(own)
            rows.append({"group": str(group), "n": len(part), "difference": difference, "p": p})
    for row, p in zip(rows, holm(np.array([row["p"] for row in rows])), strict=True):
        row["p_holm"] = float(p)
    figures["groups"] = rows
    lower = sorted((r for r in rows if r["difference"] < -margin), key=lambda r: r["p_holm"])
    about = f"{len(rows)} groups with at least {smallest} gold rows"
    if not lower:
        text = f"Of the {about} none lost more than {margin * 100:g} points"
        return Guard(1.0, text, "significantly worse")
    named = "; ".join(f"{r['group']}: {_points(r['difference'])}, n = {r['n']}" for r in lower[:5])
    text = f"Of the {about} {len(lower)} lost more than {margin * 100:g} points ({named})"
    return Guard(lower[0]["p_holm"], text, "significantly worse")


def covered(coverage: CoverageFigures, name: str, margin: float) -> Guard:
    """Certified coverage that is lower by more than the margin."""
    difference = (coverage.candidate or 0.0) - (coverage.rival or 0.0)
    p = coverage.p_lower if difference < -margin - 1e-12 else None
    text = (
        f"Certified coverage is {coverage.candidate:.1%}, {name}'s {coverage.rival:.1%}, on the"
        f" same {coverage.n} calibration requests, {_points(difference)} ({_points(-margin)} is"
        " tolerated)"
    )
    return Guard(1.0 if p is None else p, text, "significantly lower")


def _points(share: float) -> str:
    return f"{share * 100:+.1f} points"


def first_student(
    rows: pd.DataFrame, figures: dict[str, Any], coverage: CoverageFigures | None
) -> list[Claim]:
    """What a first student must be able to do at all: no champion would catch it.

    A text that states what its request does not is made up, which is another figure: where the
    ``kind`` of the contracts is known, only labels, tags and JSON are asked for their form.

    Args:
        rows: the candidate's gold rows.
        figures: of the comparison; the share of contracts kept is added.
        coverage: certified coverage, if it is known.
    """
    formed = rows[rows["kind"].isin(FORMED)] if "kind" in rows else rows.iloc[:0]
    which = " that ask for a label, tags or JSON" if len(formed) else ""
    kept = figures["contracts_kept"] = float((formed if which else rows)["valid"].mean())
    claims = [
        Claim(
            kept >= LEAST_CONTRACTS,
            f"A first student has to keep its contracts in {LEAST_CONTRACTS:.0%} of the gold rows"
            f"{which}; it does in {kept:.1%}.",
        )
    ]
    if coverage is not None and coverage.candidate is not None:
        claims.append(
            Claim(
                coverage.candidate > 0,
                "A first student has to earn a certificate in one task group at least; on the"
                f" calibration rows it is certified for {coverage.candidate:.1%} of the requests.",
            )
        )
    return claims
