"""How much coverage is left when a student is certified again each week? Tested anew, or kept?

    OMP_NUM_THREADS=1 python -m benchmarks.recertify

Six groups share the chance. Answers are wrong with chance 0.4 (1 - s)^3 at a score s, uniform in 0
to 1: 90% agree, and 0.79 of the requests could be served at 95%. ``tested anew`` certifies all rows
there are in every week, at the chance that is left for that week, as the loop did before; ``kept``
is what it does: an exact test in the first week, and running tests of fixed thresholds after it.
A draw is broken if the promise of any group was, in any of the weeks.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from benchmarks.record import Start, record, table
from loop_pipeline.confidence.certificate import Certificate, certify_group, shared_delta
from loop_pipeline.confidence.standing_certificate import first_certificate, later_certificate
from loop_pipeline.stats.binomial import clopper_pearson

ALPHA = 0.05
DELTA = 0.05
GROUPS = 6
WEEKS = (1, 5, 10, 26, 52)
DRAWS = 80
# First rows, rows a week, rows of a unit, and their latent correlation.
WORLDS = (
    (400, 20, 1, 0.0),
    (800, 20, 1, 0.0),
    (800, 20, 2, 0.9),
    (800, 100, 5, 0.6),
    (800, 100, 5, 0.9),
)


class Rows(NamedTuple):
    """Answers of one group, in the order they came."""

    score: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    unit: NDArray[np.int64]

    def until(self, n: int) -> Rows:
        """The first n."""
        return Rows(self.score[:n], self.agrees[:n], self.unit[:n])


def drawn(rng: np.random.Generator, n: int, unit: int, correlation: float) -> Rows:
    """Answers of a group, whose errors are alike within a unit."""
    score, code = rng.random(n), np.arange(n) // unit
    together = rng.standard_normal(int(code[-1]) + 1)[code]
    luck = np.sqrt(correlation) * together + np.sqrt(1 - correlation) * rng.standard_normal(n)
    return Rows(score, ndtr(luck) >= 0.4 * (1 - score) ** 3, code)


def true_error(threshold: float) -> float:
    """Share of wrong answers among those that score at least so much."""
    return 0.1 * (1 - min(max(threshold, 0.0), 1.0)) ** 3


def _anew(rows: Rows, week: int) -> float | None:
    share = shared_delta(DELTA, GROUPS, week)
    return certify_group(rows.score, rows.agrees, ALPHA, share).threshold


def _kept(rows: Rows, earlier: Certificate | None) -> Certificate:
    if earlier is None:
        share = shared_delta(DELTA, GROUPS, 1)
        return first_certificate(rows.score, rows.agrees, alpha=ALPHA, share=share, unit=rows.unit)
    return later_certificate(earlier, rows.score, rows.agrees, alpha=ALPHA, unit=rows.unit)


def measure(first: int, weekly: int, unit: int, correlation: float) -> list[dict[str, Any]]:
    """Coverage by week of both ways, and how often they broke a promise."""
    rng = np.random.default_rng(first + unit)
    coverage = {way: dict.fromkeys(WEEKS, 0.0) for way in ("tested anew", "kept")}
    broken = dict.fromkeys(coverage, 0)
    for _ in range(DRAWS):
        bad = dict.fromkeys(coverage, False)
        for _group in range(GROUPS):
            rows, standing = drawn(rng, first + weekly * max(WEEKS), unit, correlation), None
            for week in WEEKS:
                now = rows.until(first + weekly * (week - 1))
                standing = _kept(now, standing)
                for way, found in (
                    ("tested anew", _anew(now, week)),
                    ("kept", standing.threshold),
                ):
                    if found is not None:
                        bad[way] |= true_error(found) > ALPHA
                        coverage[way][week] += (1 - found) / GROUPS / DRAWS
        for way, was in bad.items():
            broken[way] += was
    lines = []
    for way, kind in (("tested anew", "control"), ("kept", "ours")):
        low, high = clopper_pearson(broken[way], DRAWS)
        lines.append(
            {"rows": f"{first} + {weekly} a week", "rows a unit": unit, "correlation": correlation}
            | {"certificate": way, "kind": kind}
            | {f"week {week}": coverage[way][week] for week in WEEKS}
            | {"ever broken": broken[way] / DRAWS}
            | {"ever broken low": low, "ever broken high": high}
        )
    return lines


def main() -> None:
    """Print the table, and write it down."""
    start = Start()
    lines = [line for world in WORLDS for line in measure(*world)]
    sys.stdout.write(f"{pd.DataFrame(lines).round(2).to_string(index=False)}\n")
    shares = {f"week {week}": "share" for week in WEEKS} | {"ever broken": "share"}
    title = f"Coverage by week, six groups, {DRAWS} draws"
    note = (
        "`tested anew` counts every row as independent, as the loop did: where rows of a unit err "
        "together it covers more and breaks its promise more often than the 5% allowed."
    )
    record(__file__, __doc__, [table(title, lines, shares)], start, notes=[note])


if __name__ == "__main__":
    main()
