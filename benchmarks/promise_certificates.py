"""Promises about what is served and learned: certificates, recalibration, quality thresholds.

Not here: promises about students (``promise_gate.py``) and about figures (``promise_figures.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.promise_policies import NAMES, fitted, thresholds
from benchmarks.promise_worlds import (
    DELTA,
    DRIFT,
    INDEPENDENT,
    NOISE,
    TARGET,
    Cell,
    Rows,
    Traffic,
    World,
    as_asked,
    latent,
    mean,
    repeated,
    rows,
    served,
    share,
    true_error,
)
from loop_pipeline.confidence.relative_certificate import certify_relative
from loop_pipeline.labels.quality.thresholds import REST, promises

GROUP_ROWS = 1_000
SHARED_ROWS = 400
WEEKS = 10
WEEK_ROWS = 20
FIRST_ROWS = 800
# Certified coverage that refits may cost until week ten, on average.
COVERAGE_LOST = 0.02
# Rows that the frontier answered twice, and how much less often a student may agree.
TWICE_ROWS = 3_000
MARGIN = 0.02
REVIEWS = 600
FITS = 20
TASKS = 4
# Of a threshold that serves exactly as much as it may.
ROUNDING = 1e-9


def _drawn(rng: np.random.Generator, world: World, n: int) -> tuple[Rows, Traffic | None]:
    return repeated(rng, world, n) if world.zipf else (rows(rng, world, n), None)


def _allowed(world: World) -> float | None:
    """Traffic that changes is outside of what any certificate is about."""
    return None if world == DRIFT else DELTA


def one_group(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The certificate of one task group with 1,000 calibration requests."""
    return _groups(world, draws, rng, 1, GROUP_ROWS)


def six_groups(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Any certificate of six task groups with 400 calibration requests each."""
    return _groups(world, draws, rng, len(NAMES), SHARED_ROWS)


def _groups(world: World, draws: int, rng: np.random.Generator, groups: int, n: int) -> Cell:
    broken, kept = 0, []
    for _ in range(draws):
        drawn = {name: _drawn(rng, world, n) for name in NAMES[:groups]}
        found = thresholds(fitted({name: part[0] for name, part in drawn.items()}))
        parts = [(found.get(name), part[1]) for name, part in drawn.items()]
        broken += any(_broken(at, world, traffic) for at, traffic in parts)
        kept.append(np.mean([served(at, traffic) for at, traffic in parts]))
    return share(broken, draws, _allowed(world), float(np.mean(kept)))


def _broken(threshold: float | None, world: World, traffic: Traffic | None = None) -> bool:
    """Whether more is wrong among what is served than the promise says."""
    if threshold is None:
        return False
    return true_error(threshold, world, traffic) > 1 - TARGET + ROUNDING


def _weeks(world: World, rng: np.random.Generator) -> list[float | None]:
    """Threshold of one group in each week, refitted on all rows there are by then."""
    everything = rows(rng, world, FIRST_ROWS + WEEKS * WEEK_ROWS)
    found, previous = [], None
    for week in range(WEEKS):
        n = FIRST_ROWS + week * WEEK_ROWS
        now = fitted({NAMES[0]: Rows(*(part[:n] for part in everything))}, previous)
        found.append(thresholds(now).get(NAMES[0]))
        previous = now or previous
    return found


def ever_broken(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Any of the certificates of one group that is recalibrated in each of ten weeks."""
    weeks = [_weeks(world, rng) for _ in range(draws)]
    broken = sum(any(_broken(at, world) for at in made) for made in weeks)
    kept = float(np.mean([served(at) for made in weeks for at in made]))
    return share(broken, draws, _allowed(world), kept)


def coverage_lost(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Coverage in the first week less that in the tenth, on 20 new rows a week."""
    weeks = [_weeks(world, rng) for _ in range(draws)]
    return mean(np.array([served(made[0]) - served(made[-1]) for made in weeks]), COVERAGE_LOST)


def relative(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The promise of a group relative to its ceiling: two points less than the frontier itself.

    The frontier was asked twice for each of 3,000 rows, and contradicts itself in 3%.
    """
    broken, kept = 0, []
    for _ in range(draws):
        own = rows(rng, world, TWICE_ROWS)
        usual = [
            latent(rng, TWICE_ROWS, world.unit, world.corr)[0] >= ndtri(NOISE) for _ in range(2)
        ]
        found = certify_relative(
            own.score,
            ~own.wrong & usual[0],
            usual[0] & usual[1],
            own.unit.astype(str).tolist(),
            margin=MARGIN,
            delta=DELTA,
        )
        at = found.threshold
        worse = (1 - NOISE) * (true_error(at, INDEPENDENT) - NOISE) if at is not None else 0.0
        broken += worse > MARGIN + ROUNDING
        kept.append(served(at))
    return share(broken, draws, served=float(np.mean(kept)))


def quality_threshold(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The threshold of one task above which answers are learned from, 600 uniform reviews."""
    return _learned(world, draws, rng, [REVIEWS], 1, _allowed(world))


def quality_fits(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Any threshold of four tasks in twenty weekly fits, 300 reviews a task and 30 more a week.

    The documents promise 5% for each task and each fit, not for all of them together.
    """
    return _learned(world, draws, rng, [300 + 30 * fit for fit in range(FITS)], TASKS, None)


def _reviewed(rng: np.random.Generator, world: World, n: int) -> tuple[Rows, Traffic | None]:
    """Answers are reviewed as they come: a request that is asked twice may be drawn twice."""
    drawn, traffic = _drawn(rng, world, n)
    if traffic is None:
        return drawn, None
    order = rng.permutation(n)
    return Rows(*(part[order] for part in as_asked(drawn))), traffic


def _learned(
    world: World,
    draws: int,
    rng: np.random.Generator,
    sizes: list[int],
    tasks: int,
    allowed: float | None,
) -> Cell:
    """Whether any threshold lets through more bad answers than it promises, and what it keeps."""
    broken, kept = 0, []
    for _ in range(draws):
        drawn = [_reviewed(rng, world, sizes[-1]) for _ in range(tasks)]
        parts = [
            (at, traffic)
            for size in sizes
            for at, (_, traffic) in zip(_limits(drawn, size), drawn, strict=True)
        ]
        broken += any(_broken(at, world, traffic) for at, traffic in parts)
        kept.append(np.mean([served(at, traffic) for at, traffic in parts]))
    return share(broken, draws, allowed, float(np.mean(kept)))


def _limits(drawn: list[tuple[Rows, Traffic | None]], size: int) -> list[float | None]:
    """The threshold of each task on its first reviews."""
    parts = [Rows(*(part[:size] for part in own)) for own, _ in drawn]
    score = pd.Series(np.concatenate([part.score for part in parts]))
    task = pd.Series(np.repeat([f"t{i}" for i in range(len(parts))], size))
    unit = pd.Series(np.concatenate([part.unit for part in parts]).astype(str))
    made = promises(
        score,
        pd.Series(~np.concatenate([part.wrong for part in parts])),
        task,
        pd.Series(data=True, index=score.index),
        target_precision=TARGET,
        delta=DELTA,
        auc=0.8,
        units=task + unit,
    )
    names = [f"t{i}" for i in range(len(parts))]
    return [(made.get(name) or made[REST]).threshold for name in names]
