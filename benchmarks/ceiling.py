"""Can a student be certified where the frontier does not agree with itself in 95%?

A frontier that says its modal answer most of the time, and a student that learned the modal answer:
of the fixed promise of 95% nothing can be certified. The promise relative to the ceiling is tested
on rows that were asked twice, both answers on one row (paired), or by two bounds that share delta,
the student's on all rows and the frontier's on those asked twice. Broken: the student, among what
it serves, disagrees more often than the frontier with itself and the margin, by the true chances.
In the worlds of the second table it would do so if it served all: only a threshold keeps it.

    python -m benchmarks.ceiling
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.record import Start, record, table
from loop_pipeline.confidence.ceiling import ceiling_of
from loop_pipeline.confidence.certificate import certify_group, shared_delta
from loop_pipeline.confidence.relative_certificate import certify_relative
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.fixed_sequence import STEPS

ALPHA, DELTA = 0.05, 0.05
# Of a first policy of six groups each has this much of it.
SHARED = shared_delta(DELTA, 6, 1)
DRAWS, FEW = 400, 60

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class World(NamedTuple):
    """How sure the frontier and the student are of the modal answer, by the score."""

    itself: float = 0.9
    modal: float = 0.97
    noise: str = "everywhere"  # or on the hard fifth only, which the score sees

    def frontier(self, score: Floats) -> Floats:
        """The chance that one answer of the frontier is the modal one."""
        if self.noise == "everywhere":
            return np.full(len(score), np.sqrt(self.itself))
        return np.where(score < 0.2, np.sqrt(1 - (1 - self.itself) / 0.2), 1.0)

    def student(self, score: Floats) -> Floats:
        """The chance that the student says the modal answer."""
        return 1 - (1 - self.modal) * 4 * (1 - score) ** 3


class Rows(NamedTuple):
    """Rows that the frontier answered twice."""

    score: Floats
    agrees: Bools
    itself: Bools
    units: list[str]


def draw(
    rng: np.random.Generator, world: World, rows: int, per_unit: int = 1, correlation: float = 0.0
) -> Rows:
    """Rows in units whose answers resemble each other."""
    unit = np.repeat(np.arange(-(-rows // per_unit)), per_unit)[:rows]

    def latent() -> Floats:
        shared = np.sqrt(correlation) * rng.normal(size=unit.max() + 1)[unit]
        return norm.cdf(shared + np.sqrt(1 - correlation) * rng.normal(size=rows))

    score = rng.random(rows)
    first, second = (latent() < world.frontier(score) for _ in range(2))
    knows = latent() < world.student(score)
    return Rows(score, knows & first, first & second, unit.astype(str).tolist())


def keeps(world: World, threshold: float | None, margin: float) -> bool:
    """Whether what is served from a threshold on keeps the margin, by the true chances."""
    if threshold is None:
        return True
    served = np.linspace(max(threshold, 0.0), 1, 4001)
    frontier = world.frontier(served)
    lost = frontier**2 - frontier * world.student(served)
    return float(lost.mean()) <= margin


def two_bounds(rows: Rows, twice: Bools, margin: float, delta: float) -> float | None:
    """An upper bound of the student's disagreement less a lower one of the frontier's own."""
    ordered = np.sort(rows.score)[::-1]
    best = None
    for k in np.unique(np.linspace(len(ordered) // 2, len(ordered), STEPS).astype(int)):
        own = rows.score >= ordered[k - 1]
        asked = own & twice
        wrong = clopper_pearson(int((own & ~rows.agrees).sum()), int(own.sum()), 1 - delta)[1]
        if not asked.any():
            break
        itself = clopper_pearson(int((asked & ~rows.itself).sum()), int(asked.sum()), 1 - delta)[0]
        if wrong - itself > margin:
            break
        best = float(ordered[k - 1])
    return best


def covered(world: World, rows: int, margin: float) -> dict[str, Any]:
    """Mean coverage of each way to promise."""
    found: dict[str, list[float]] = {}

    def add(name: str, coverage: float) -> None:
        found.setdefault(name, []).append(coverage)

    for seed in range(FEW):
        rng = np.random.default_rng([rows, int(1000 * margin), seed])
        made = draw(rng, world, rows)
        add("fixed 95%", certify_group(made.score, made.agrees, ALPHA, SHARED).coverage)
        paired = certify_relative(*made, margin=margin, delta=SHARED)
        add("relative, paired, all asked twice", paired.coverage)
        few_rows = rows // 5
        fifth = Rows(
            *(part[:few_rows] for part in (made.score, made.agrees, made.itself)),
            units=made.units[:few_rows],
        )
        few = certify_relative(*fifth, margin=margin, delta=SHARED)
        add("relative, paired, a fifth asked twice", few.coverage)
        for name, share in (("all", 1.0), ("a fifth", 0.2)):
            threshold = two_bounds(made, rng.random(rows) < share, margin, SHARED)
            kept = 0.0 if threshold is None else float((made.score >= threshold).mean())
            add(f"relative, two bounds, {name} asked twice", kept)
    return {"rows": rows, "margin": margin} | {k: float(np.mean(v)) for k, v in found.items()}


def broken(world: World, per_unit: int, correlation: float, rows: int) -> dict[str, Any]:
    """How often the relative promise is broken; ``delta`` is 5%, of one group alone."""
    bad = served = 0
    for seed in range(DRAWS):
        rng = np.random.default_rng([per_unit, int(10 * correlation), rows, seed])
        made = draw(rng, world, rows, per_unit, correlation)
        found = certify_relative(*made, margin=0.03, delta=DELTA)
        served += found.threshold is not None
        bad += not keeps(world, found.threshold, 0.03)
    low, high = clopper_pearson(bad, DRAWS)
    return {
        "world": f"noise {world.noise}, student modal in {world.modal:.0%}",
        "rows": rows,
        "rows a unit": per_unit,
        "correlation": correlation,
        "some threshold": served / DRAWS,
        "broken": bad / DRAWS,
        "broken low": low,
        "broken high": high,
    }


def held(per_unit: int, correlation: float) -> dict[str, Any]:
    """How often the interval of a ceiling holds the truth."""
    inside, width = 0, []
    for seed in range(DRAWS):
        rng = np.random.default_rng([per_unit, int(10 * correlation), 9, seed])
        made = draw(rng, World(), 300, per_unit, correlation)
        found = ceiling_of(made.itself.tolist(), made.units, drawn=True)
        assert found is not None
        inside += found.low <= 0.9 <= found.high
        width.append(found.high - found.low)
    figures = {"interval holds": inside / DRAWS, "width": float(np.mean(width))}
    return {"rows a unit": per_unit, "correlation": correlation, **figures}


UNITS = ((1, 0.0), (5, 0.6), (5, 0.9), (10, 0.6), (10, 0.9))


def main() -> None:
    """Measure and write."""
    start = Start()
    coverage = [covered(World(), rows, m) for rows in (400, 800, 1500) for m in (0.02, 0.03, 0.05)]
    hard = [covered(World(noise="on the hard fifth"), rows, 0.02) for rows in (400, 800, 1500)]
    edge = [World(modal=0.86), World(modal=0.86, noise="on the hard fifth")]
    kept = [broken(w, *unit, rows) for w in edge for unit in UNITS for rows in (500, 1000)]
    shares = dict.fromkeys(coverage[0], "share") | {"rows": ""}
    tables = [
        table(
            "Coverage, frontier agrees with itself in 90%, student modal in 97%", coverage, shares
        ),
        table("The same with the noise on the hard fifth, which the score sees", hard, shares),
        table(
            "The relative promise broken, margin 3 points, 5% allowed",
            kept,
            {"some threshold": "share", "broken": "share"},
        ),
        table(
            "The interval of a ceiling, 300 requests asked twice, 95% nominal",
            [held(*unit) for unit in UNITS],
            {"interval holds": "share", "width": "share"},
        ),
    ]
    print(record(__file__, __doc__, tables, start))


if __name__ == "__main__":
    main()
