"""Do bets find a looser threshold than the exact binomial test, at equal validity?

    OMP_NUM_THREADS=1 python -m benchmarks.betting [draws]

Waudby-Smith and Ramdas (2024) test a mean by betting against it; their bounds beat Hoeffding's and
Bernstein's. A certificate asks whether at most 5% of the accepted answers are wrong, at a number of
rows that is fixed beforehand. Each row of the tables walks the same thresholds from strict to loose
in the same worlds (``promise_worlds.py``), and tests them at 5%: *plug-in* bets by the predictable
estimate of the spread, *Kelly* by that of the growth, *mixture* eight constant bets at once. Bets
win as soon as the wealth reaches 20, at whichever row. *Of units* bets on the errors of a whole
unit, which is exact however much its rows have in common.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.promise_worlds import (
    DELTA,
    INDEPENDENT,
    LEVEL,
    TARGET,
    UNITS,
    Floats,
    Rows,
    World,
    rows,
    true_error,
)
from benchmarks.record import Start, record, table
from loop_pipeline.confidence.certificate import certify_group
from loop_pipeline.stats.binomial import clopper_pearson, smallest_certifiable
from loop_pipeline.stats.fixed_sequence import STEPS

DRAWS = 600
ALPHA = 1 - TARGET
SIZES = (200, 500, 1_000)
UNIT_ROWS = 1_000
# Largest share of the wealth that a single error may take.
RISKED = 0.75
BETS = np.geomspace(0.05, 0.9, 8)
OURS = "exact binomial, by units"

Wealth = Callable[[Floats, float], Floats]


def plug_in(gain: Floats, most: float) -> Floats:
    """Log-wealth of the predictable plug-in bets; gains of shape (thresholds, rows)."""
    n = gain.shape[1]
    seen = np.arange(1, n + 1)
    centre = (np.cumsum(gain, axis=1)) / seen
    spread = (most**2 / 4 + np.cumsum((gain - centre) ** 2, axis=1)) / (seen + 1)
    before = np.concatenate([np.full((len(gain), 1), most**2 / 4), spread[:, :-1]], axis=1)
    bet = np.minimum(np.sqrt(2 * np.log(1 / DELTA) / (n * before)), RISKED / most)
    return np.cumsum(np.log1p(bet * gain), axis=1)


def kelly(gain: Floats, most: float) -> Floats:
    """Log-wealth of bets that would have grown fastest on the rows so far (approximate Kelly)."""
    seen = np.arange(1, gain.shape[1] + 1)
    centre = np.cumsum(gain, axis=1) / (seen + 1)
    square = (most**2 / 4 + np.cumsum(gain**2, axis=1)) / (seen + 1)
    bet = np.clip(centre / square, 0, RISKED / most)
    bet = np.concatenate([np.zeros((len(gain), 1)), bet[:, :-1]], axis=1)
    return np.cumsum(np.log1p(bet * gain), axis=1)


def mixture(gain: Floats, most: float) -> Floats:
    """Log-wealth of eight constant bets at once."""
    parts = np.stack([np.cumsum(np.log1p(bet / most * gain), axis=1) for bet in BETS])
    return np.logaddexp.reduce(parts, axis=0) - np.log(len(BETS))


def bet_threshold(drawn: Rows, wealth: Wealth, of_units: bool) -> float | None:
    """Loosest threshold of the walk whose bets all won, as ``bounded_threshold`` walks.

    A row gains 5% of the stake if it is right and loses 95% if it is wrong; a unit what its
    accepted rows gain together.
    """
    n, start = len(drawn.score), smallest_certifiable(ALPHA, DELTA)
    ordered = np.sort(drawn.score)[::-1]
    steps = np.unique(np.linspace(max(n // 2, start), n, STEPS).astype(int))
    limits = ordered[steps - 1]
    accepted = drawn.score >= limits[:, None]
    gain = accepted * (ALPHA - drawn.wrong)
    most = TARGET
    if of_units:
        size = int(np.bincount(drawn.unit).max())
        gain = gain.reshape(len(steps), -1, size).sum(axis=2)
        most = TARGET * size
    won = wealth(gain, most).max(axis=1) >= np.log(1 / DELTA)
    passed = int(np.cumprod(won).sum())
    return float(limits[passed - 1]) if passed else None


def exact(drawn: Rows) -> float | None:
    """The exact binomial test, every row by itself."""
    return certify_group(drawn.score, ~drawn.wrong, ALPHA, DELTA).threshold


def by_units(drawn: Rows) -> float | None:
    """The project's threshold: the same test on what rows in units are worth."""
    return certify_group(drawn.score, ~drawn.wrong, ALPHA, DELTA, unit=drawn.unit).threshold


def one_a_unit(drawn: Rows) -> float | None:
    """The same on the first row of each unit."""
    _, first = np.unique(drawn.unit, return_index=True)
    return exact(Rows(*(part[first] for part in drawn)))


def compared(
    world: World, n: int, rules: dict[str, Callable[[Rows], float | None]], draws: int
) -> list[dict[str, Any]]:
    """Coverage and broken promises of each rule on the same rows."""
    rng = np.random.default_rng(n + world.unit)
    found: dict[str, list[float | None]] = {name: [] for name in rules}
    for _ in range(draws):
        drawn = rows(rng, world, n)
        for name, rule in rules.items():
            found[name].append(rule(drawn))
    lines = []
    for name, limits in found.items():
        broken = sum(at is not None and true_error(at, world) > ALPHA for at in limits)
        low, high = clopper_pearson(broken, draws, LEVEL)
        lines.append(
            {
                "world": world.name,
                "rows": n,
                "test": name,
                "kind": "ours" if name == OURS else "control",
                "coverage": np.mean([0.0 if at is None else 1 - at for at in limits]),
                "nothing certified": np.mean([at is None for at in limits]),
                "promise broken": broken / draws,
                "promise broken low": low,
                "promise broken high": high,
            }
        )
    return lines


def bets(of_units: bool) -> dict[str, Callable[[Rows], float | None]]:
    """The three ways to bet, by name."""
    ways: dict[str, Wealth] = {"plug-in": plug_in, "Kelly": kelly, "mixture": mixture}
    of = " of units" if of_units else ""
    return {
        f"bets{of}, {name}": lambda drawn, way=way: bet_threshold(drawn, way, of_units)
        for name, way in ways.items()
    }


def main(draws: int = DRAWS) -> None:
    """Print two tables, and write them down."""
    start = Start()
    plain = [
        line
        for n in SIZES
        for line in compared(INDEPENDENT, n, {OURS: by_units} | bets(False), draws)
    ]
    rules = {OURS: by_units, "exact binomial, each row": exact, "one row a unit": one_a_unit}
    rules |= bets(True)
    tied = [line for world in UNITS[:4] for line in compared(world, UNIT_ROWS, rules, draws)]
    units = dict.fromkeys(("coverage", "nothing certified", "promise broken"), "share")
    titles = {"Independent rows": plain, f"{UNIT_ROWS:,} rows in units": tied}
    for title, lines in titles.items():
        shown = pd.DataFrame(lines).drop(columns="kind").round(3).to_string(index=False)
        sys.stdout.write(f"{title}\n{shown}\n\n")
    best = f"No threshold can serve more than 79.4%; {DELTA:.0%} of the promises may be broken."
    tables = [table(title, lines, units) for title, lines in titles.items()]
    if draws >= 300:
        record(__file__, __doc__, tables, start, notes=[best])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
