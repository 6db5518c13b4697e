"""Decides whether a candidate may take the champion's place, on the gold rows both answered.

The rule has to work with 700 gold rows, where the difference of two good students has a standard
error of about one point. "The 95% lower bound is above -1 point" would then refuse three of four
equal candidates. So two things are asked of the paired difference:

1. the observed difference is not below -1 point (it decides when there are many rows), and
2. its one-sided 95% lower bound (Tango 1998) is above -3 points (it decides when there are few).

A candidate worse by 3 points passes (2) in about 5% of the draws, at every n. Simulated with
all claims, six groups and 500 draws, an equal one (one worse by 3 points) passes in 87% (4%) at 700
rows of which 7% are discordant, 81% (5%) at 9%, and in 90% (0.2%) at 2,000 rows and 8%. At 700 rows
and more than 9% the share of equal ones falls below 80%. Refusals for lack of rows say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom, norm


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may serve, why, and the figures behind it (JSON-ready)."""

    approved: bool
    reasons: list[str]
    figures: dict[str, Any]


@dataclass(frozen=True)
class _Claim:
    """One thing that has to hold."""

    holds: bool
    sentence: str


def mcnemar_worse(gained: int, lost: int) -> float:
    """Exact one-sided p-value that the candidate is not worse.

    Args:
        gained: rows only the candidate gets right.
        lost: rows only the other one gets right.
    """
    return float(binom.sf(lost - 1, gained + lost, 0.5)) if gained + lost else 1.0


def lower_bound(gained: int, lost: int, n: int, alpha: float) -> float:
    """One-sided ``1 - alpha`` lower bound of the paired difference, by Tango's score test (1998).

    It holds its level also when few rows are discordant, where bootstrap and Wald bounds collapse.

    Args:
        gained: rows only the candidate gets right.
        lost: rows only the other one gets right.
        n: rows both answered.
        alpha: chance that the true difference is below the bound.
    """
    z = float(norm.ppf(1 - alpha))

    def beyond(difference: float) -> float:
        return _tango(gained, lost, n, difference) - z

    edge = 1e-9
    if beyond(-1 + edge) <= 0:
        return -1.0
    return float(brentq(beyond, -1 + edge, (gained - lost) / n))  # pyright: ignore[reportArgumentType]


def _tango(gained: int, lost: int, n: int, difference: float) -> float:
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    rare = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * rare + difference * (1 - difference))
    above = gained - lost - n * difference
    return above / math.sqrt(variance) if variance > 0 else (math.inf if above > 0 else 0.0)


def decide(
    candidate: pd.DataFrame,
    champion: pd.DataFrame | None,
    *,
    base: pd.DataFrame | None = None,
    groups: pd.Series | None = None,
    margin: float = 0.01,
    worst: float = 0.03,
    group_margin: float = 0.03,
    min_group: int = 100,
    alpha: float = 0.05,
) -> Decision:
    """Compare a candidate with the champion; without one, with the bare base model.

    Each frame holds one row a gold prompt: ``prompt_id``, ``agrees`` and ``valid`` (whether the
    answer keeps its contract, see `evaluation.contract_validity`).

    Args:
        candidate: answers of the checkpoint to judge.
        champion: answers of the one that serves now, if any.
        base: answers of the base model without adapter. With no champion, the candidate must be
            significantly better (exact McNemar). A base that was itself fitted to these tasks
            (the `tiny` profile) is no such floor: hand it in as the champion.
        groups: task group by prompt id.
        margin: observed loss of agreement that is tolerated.
        worst: loss of agreement that must be ruled out.
        group_margin: loss tolerated in a group; a larger and significant one refuses.
        min_group: smaller groups are not judged on their own.
        alpha: level of each test; within the groups of the family (Holm).

    Raises:
        ValueError: a frame lacks a column or holds a prompt twice, or there is nothing to compare
            with.
    """
    rival = champion if champion is not None else base
    if rival is None:
        raise ValueError("nothing to compare with: answer the gold rows with the base model first")
    pair = _paired(candidate, rival)
    name = "the champion" if champion is not None else "the base model"
    figures = _figures(pair, alpha) if len(pair) else {"n": 0}
    if not len(pair):
        return Decision(
            False, [f"No gold row was answered by both the candidate and {name}."], figures
        )
    if champion is not None:
        claims = _not_worse(figures, name, margin, worst, alpha)
    else:
        claims = [_better(figures, name, alpha)]
    claims.append(_valid(pair, figures, name, alpha))
    if groups is not None:
        claims.append(_groups(pair, groups, figures, group_margin, min_group, alpha))
    approved = all(claim.holds for claim in claims)
    # What speaks against comes first: that is what a reader looks for.
    ordered = sorted(claims, key=lambda claim: claim.holds)
    return Decision(approved, [claim.sentence for claim in ordered], figures)


def _paired(candidate: pd.DataFrame, rival: pd.DataFrame) -> pd.DataFrame:
    sides = []
    for frame in (candidate, rival):
        missing = {"prompt_id", "agrees", "valid"} - set(frame.columns)
        if missing:
            raise ValueError(f"the answers lack the columns {sorted(missing)}")
        if frame["prompt_id"].duplicated().any():
            twice = frame.loc[frame["prompt_id"].duplicated(), "prompt_id"].iloc[0]
            raise ValueError(f"prompt {twice!r} is answered twice: one checkpoint a frame")
        sides.append(frame.set_index("prompt_id")[["agrees", "valid"]].astype(bool))
    return sides[0].add_suffix("_new").join(sides[1].add_suffix("_old"), how="inner")


def _figures(pair: pd.DataFrame, alpha: float) -> dict[str, Any]:
    gained, lost = _discordant(pair["agrees_new"], pair["agrees_old"])
    n = len(pair)
    return {
        "n": n,
        "candidate_agreement": float(pair["agrees_new"].mean()),
        "rival_agreement": float(pair["agrees_old"].mean()),
        "difference": (gained - lost) / n,
        "lower_bound": lower_bound(gained, lost, n, alpha),
        "only_candidate_right": gained,
        "only_rival_right": lost,
        "p_better": mcnemar_worse(lost, gained),
        "p_worse": mcnemar_worse(gained, lost),
    }


def _discordant(new: pd.Series, old: pd.Series) -> tuple[int, int]:
    return int((new & ~old).sum()), int((~new & old).sum())


def _not_worse(
    figures: dict[str, Any], name: str, margin: float, worst: float, alpha: float
) -> list[_Claim]:
    n, difference, low = figures["n"], figures["difference"], figures["lower_bound"]
    observed = _Claim(
        difference >= -margin - 1e-12,
        f"Agreement is {figures['candidate_agreement']:.1%}, {name}'s"
        f" {figures['rival_agreement']:.1%}, on the same {n} gold rows: {_points(difference)}"
        f" ({_points(-margin)} is tolerated).",
    )
    ruled_out = low > -worst
    text = f"At {1 - alpha:.0%} confidence the difference is above {_points(low)}; " + (
        f"a loss of {worst * 100:g} points is ruled out."
        if ruled_out
        else f"a loss of {worst * 100:g} points cannot be ruled out with {n} gold rows."
    )
    return [observed, _Claim(ruled_out, text)]


def _better(figures: dict[str, Any], name: str, alpha: float) -> _Claim:
    better = figures["p_better"] <= alpha
    return _Claim(
        better,
        f"There is no champion. Agreement is {figures['candidate_agreement']:.1%}, {name}'s"
        f" {figures['rival_agreement']:.1%} on the same {figures['n']} gold rows: the candidate is"
        f" {'' if better else 'not '}significantly better (exact McNemar p ="
        f" {figures['p_better']:.2g}).",
    )


def _valid(pair: pd.DataFrame, figures: dict[str, Any], name: str, alpha: float) -> _Claim:
    gained, lost = _discordant(pair["valid_new"], pair["valid_old"])
    new, old = float(pair["valid_new"].mean()), float(pair["valid_old"].mean())
    p = mcnemar_worse(gained, lost)
    figures |= {"candidate_validity": new, "rival_validity": old, "p_validity_lower": p}
    return _Claim(
        p > alpha,
        f"{new:.1%} of the answers keep their contract, {name}'s {old:.1%}:"
        f" {'not ' if p > alpha else ''}significantly lower (exact McNemar p = {p:.2g}).",
    )


def _groups(
    pair: pd.DataFrame,
    groups: pd.Series,
    figures: dict[str, Any],
    margin: float,
    smallest: int,
    alpha: float,
) -> _Claim:
    """No group with enough rows lost more than the margin and significantly (McNemar, Holm)."""
    member = groups.reindex(pair.index)
    rows = []
    for group, part in pair.groupby(member, sort=True):
        if len(part) >= smallest:
            gained, lost = _discordant(part["agrees_new"], part["agrees_old"])
            difference = (gained - lost) / len(part)
            p = mcnemar_worse(gained, lost)
            rows.append({"group": str(group), "n": len(part), "difference": difference, "p": p})
    adjusted = holm(np.array([row["p"] for row in rows]))
    for row, p in zip(rows, adjusted, strict=True):
        row["p_holm"] = float(p)
    figures["groups"] = rows
    worse = [r for r in rows if r["p_holm"] <= alpha and r["difference"] < -margin]
    if worse:
        named = "; ".join(
            f"{r['group']}: {_points(r['difference'])}, n = {r['n']}, p = {r['p_holm']:.2g}"
            for r in worse
        )
        return _Claim(False, f"Worse by more than {margin * 100:g} points in a group: {named}.")
    return _Claim(
        True,
        f"None of the {len(rows)} groups with at least {smallest} gold rows is significantly worse"
        f" by more than {margin * 100:g} points.",
    )


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: compare them with the family's level. Shape (k,) to (k,)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return adjusted


def _points(share: float) -> str:
    return f"{share * 100:+.1f} points"
