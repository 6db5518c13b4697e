"""Decides whether a candidate may take the champion's place, on the gold rows both answered.

The rule has to work with a thousand gold rows, where the difference of two good students has a
standard error of almost one point. "The 95% lower bound is above -1 point" would then refuse most
equal candidates. So two things are asked of the paired difference:

1. the observed difference is not below -1 point (it decides when there are many rows), and
2. its one-sided 95% lower bound (Tango 1998) is above -3 points (it decides when there are few).

A candidate worse by 3 points passes (2) in about 5% of the draws, at every n. Four guards stand
beside it: no group worse by more than 3 points, contracts, hallucinations, certified coverage. Each
refuses a loss that is significant; together they refuse a candidate without one in at most 5% of
the draws (Holm over the four), because four tests at 5% each would refuse every sixth.

Simulated with known truth, all claims together, six groups, 1.5 calibration rows a gold row, 200
draws: an equal candidate (one worse by 3 points) passes in 83% (3%) of the draws with 700 gold rows
of which 8% are discordant, in 85% (4%) with 1,000 and 8%, 80% (3%) with 1,000 and 10%, 89% (1%)
with 1,500 and 10%. With 700 rows and 10% it is 76% (3%): a gate needs a thousand gold rows, more
where two good students differ on over a tenth of them. Refusals for lack of rows say so.

One tolerated point a time would add up. So a candidate is held, by the same two rules, to the best
champion there ever was as well: the one with the highest agreement on the same gold rows. Simulated
with known truth, 20 candidates in a row, each half a point worse than the champion of the day: with
3,000 gold rows (40 draws) the champion ends 6.7 points lower without this anchor and 1.4 with it,
with 1,000 (60 draws) 4.0 and 1.5. It costs equal candidates, because the best of several was lucky
on these rows: of 20 in a row 88% pass (96% without) with 3,000 rows, 59% (81%) with 1,000.

Rows of one unit (a conversation, near-duplicates) are lost together. All tests count by units
(``stats/paired.py``): with 1,000 rows in units of 5 or 10, of latent correlation 0.6 and 0.9, the
agreement rule lets a candidate worse by 3 points pass in 4.0 to 5.9% of 2,000 draws, where counting
rows lets 7 to 18% pass. Equal candidates pay: 72% pass with (5, 0.6), 54% with (10, 0.6).

A first student has no champion to be held to. It is refused if it keeps its contracts in under 95%
of the gold rows, or if no task group could be certified on the calibration rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.confidence.coverage import CoverageFigures
from loop_pipeline.evaluation.gate_claims import (
    agreement_figures,
    as_good,
    better,
    certifiable,
    covered,
    first_student,
    keeps_contracts,
    no_group_worse,
    not_worse,
    truthful,
)
from loop_pipeline.stats.paired import holm

# What is compared row by row.
JUDGED = ("agrees", "valid", "flagged")


@dataclass(frozen=True)
class Decision:
    """Whether a candidate may serve, why, and the figures behind it (JSON-ready)."""

    approved: bool
    reasons: list[str]
    figures: dict[str, Any]


def decide(
    candidate: pd.DataFrame,
    champion: pd.DataFrame | None,
    *,
    base: pd.DataFrame | None = None,
    base_was_fitted: bool = False,
    anchor: pd.DataFrame | None = None,
    cut_short: str = "",
    groups: pd.Series | None = None,
    units: pd.Series | None = None,
    coverage: CoverageFigures | None = None,
    margin: float = 0.01,
    worst: float = 0.03,
    group_margin: float = 0.03,
    min_group: int = 100,
    coverage_margin: float = 0.02,
    alpha: float = 0.05,
) -> Decision:
    """Compare a candidate with the champion; without one, with the bare base model.

    Each frame holds one row a distinct gold request: ``prompt_id``, ``agrees``, ``valid`` and
    ``flagged`` (as `held_out.judge` gives them).

    Args:
        candidate: answers of the checkpoint to judge.
        champion: answers of the one that serves now, if any.
        base: answers of the base model without adapter. With no champion, the candidate must be
            significantly better (exact, by units).
        base_was_fitted: the base was itself made from these tasks (the `tiny` profile). It serves
            nobody, so that with no champion the candidate must only not be significantly worse:
            what it may answer is up to the certificate.
        anchor: answers of the best champion there ever was, if that is not today's. The candidate
            is held to it by the same rule, so that many small losses do not add up.
        cut_short: what has to be said if the candidate's training did not come to its end.
        groups: task group by prompt id.
        units: by prompt id, what a row belongs together with (a conversation, near-duplicates):
            such rows are lost together, so that all tests count by units. None: each by itself.
        coverage: certified coverage of both (`coverage.compare_coverage`); None leaves it
            out of the decision.
        margin: observed loss of agreement that is tolerated.
        worst: loss of agreement that must be ruled out.
        group_margin: loss tolerated in a group; a larger and significant one refuses.
        min_group: smaller groups are not judged on their own.
        coverage_margin: loss of certified coverage tolerated; a larger and significant one refuses.
        alpha: level of the test of agreement, and of the guards as a family (Holm).

    Raises:
        ValueError: a frame lacks a column or holds a prompt twice, or there is nothing to compare
            with.
    """
    rival = champion if champion is not None else base
    if rival is None:
        raise ValueError("nothing to compare with: answer the gold rows with the base model first")
    pair = _paired(candidate, rival)
    name = "the champion" if champion is not None else "the base model"
    if not len(pair):
        nothing = f"No gold row was answered by both the candidate and {name}."
        return Decision(False, [nothing], {"n": 0, "against": [nothing]})
    pair = _with_units(pair, units)
    figures = agreement_figures(pair, alpha)
    if champion is not None:
        claims = not_worse(figures, name, margin, worst, alpha)
    else:
        claims = [(as_good if base_was_fitted else better)(figures, name, alpha)]
    if anchor is not None and len(known := _paired(candidate, anchor)):
        best = figures["anchor"] = agreement_figures(_with_units(known, units), alpha)
        claims += not_worse(best, "the best champion so far", margin, worst, alpha)
    guards = [keeps_contracts(pair, figures, name), truthful(pair, figures, name)]
    if groups is not None:
        guards.append(no_group_worse(pair, groups, figures, group_margin, min_group))
    if coverage is not None:
        figures["coverage"] = coverage.to_json()
        both = coverage.candidate is not None and coverage.rival is not None
        guards += [covered(coverage, name, coverage_margin)] if both else []
        claims += [] if both else [certifiable(coverage, name)]
    if champion is None:
        own = candidate[candidate["prompt_id"].isin(pair.index)]
        claims += first_student(own, figures, coverage)
    adjusted = holm(np.array([guard.p for guard in guards]))
    claims += [guard.claim(float(p), alpha) for guard, p in zip(guards, adjusted, strict=True)]
    against = figures["against"] = [claim.sentence for claim in claims if not claim.holds]
    # What speaks against comes first: that is what a reader looks for.
    reasons = against + [claim.sentence for claim in claims if claim.holds]
    return Decision(not against, [cut_short, *reasons] if cut_short else reasons, figures)


def best_champion(
    champion: pd.DataFrame, earlier: Mapping[str, pd.DataFrame]
) -> tuple[str, pd.DataFrame] | None:
    """The earlier champion that agrees more often than today's on the gold rows both answered.

    Args:
        champion: judged answers of the one that serves now.
        earlier: the same of those that served before, by checkpoint id. One that knows less than
            half of the rows is no measure.

    Returns:
        The best of them and its answers; None if today's champion is the best there was.
    """
    leads: dict[str, float] = {}
    for name, rows in earlier.items():
        pair = _paired(rows, champion)
        if 2 * len(pair) >= len(champion):
            leads[name] = float(pair["agrees_new"].mean() - pair["agrees_old"].mean())
    best = max(leads, key=lambda name: leads[name], default=None)
    return None if best is None or leads[best] <= 0 else (best, earlier[best])


def _with_units(pair: pd.DataFrame, units: pd.Series | None) -> pd.DataFrame:
    """Name the unit of each row; one that is in none is a unit of its own."""
    own = pair.index.to_series()
    return pair.assign(unit=own if units is None else units.reindex(pair.index).fillna(own))


def _paired(candidate: pd.DataFrame, rival: pd.DataFrame) -> pd.DataFrame:
    sides = []
    for frame in (candidate, rival):
        missing = {"prompt_id", *JUDGED} - set(frame.columns)
        if missing:
            raise ValueError(f"the answers lack the columns {sorted(missing)}")
        if frame["prompt_id"].duplicated().any():
            twice = frame.loc[frame["prompt_id"].duplicated(), "prompt_id"].iloc[0]
            raise ValueError(f"prompt {twice!r} is answered twice: one checkpoint a frame")
        sides.append(frame.set_index("prompt_id")[list(JUDGED)].astype(bool))
    return sides[0].add_suffix("_new").join(sides[1].add_suffix("_old"), how="inner")
