"""Promises about what is served and learned: certificates, recalibration, quality thresholds.

Not here: promises about students (``promise_gate.py``) and about figures (``promise_figures.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.promise_policies import NAMES, coverage, fitted, thresholds
from benchmarks.promise_worlds import (
    DELTA,
    DRIFT,
    TARGET,
    Cell,
    Rows,
    Traffic,
    World,
    as_asked,
    mean,
    repeated,
    rows,
    share,
    true_error,
)
from loop_pipeline.confidence.certificate import promise_state
from loop_pipeline.labels.quality.thresholds import promises

GROUP_ROWS = 1_000
SHARED_ROWS = 400
WEEKS = 10
WEEK_ROWS = 20
FIRST_ROWS = 800
# Certified coverage that refits may cost until week ten, on average.
COVERAGE_LOST = 0.02
REVIEWS = 600
FITS = 20
TASKS = 4
GOLD_ROWS = 150


def _drawn(rng: np.random.Generator, world: World, n: int) -> tuple[Rows, Traffic | None]:
    return repeated(rng, world, n) if world.zipf else (rows(rng, world, n), None)


def _allowed(world: World) -> float | None:
    """Traffic that changes is outside of what any certificate is about."""
    return None if world == DRIFT else DELTA


def one_group(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The certificate of one task group with 1,000 calibration requests."""
    return share(
        sum(_any_broken(rng, world, 1, GROUP_ROWS) for _ in range(draws)), draws, _allowed(world)
    )


def six_groups(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Any certificate of six task groups with 400 calibration requests each."""
    return share(
        sum(_any_broken(rng, world, len(NAMES), SHARED_ROWS) for _ in range(draws)),
        draws,
        _allowed(world),
    )


def _any_broken(rng: np.random.Generator, world: World, groups: int, n: int) -> bool:
    drawn = {name: _drawn(rng, world, n) for name in NAMES[:groups]}
    found = thresholds(fitted({name: part[0] for name, part in drawn.items()}))
    return any(
        true_error(at, world, drawn[name][1]) > 1 - TARGET + 1e-9 for name, at in found.items()
    )


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
    broken = 0
    for _ in range(draws):
        made = [at for at in _weeks(world, rng) if at is not None]
        broken += any(true_error(at, world) > 1 - TARGET + 1e-9 for at in made)
    return share(broken, draws, _allowed(world))


def coverage_lost(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Coverage in the first week less that in the tenth, on 20 new rows a week."""
    lost = []
    for _ in range(draws):
        weeks = [{} if at is None else {NAMES[0]: at} for at in _weeks(world, rng)]
        lost.append(coverage(weeks[0], 1) - coverage(weeks[-1], 1))
    return mean(np.array(lost), COVERAGE_LOST)


def quality_threshold(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The threshold of one task above which answers are learned from, 600 uniform reviews."""
    broken = sum(_learned_wrong(rng, world, [REVIEWS], 1) for _ in range(draws))
    return share(broken, draws, _allowed(world))


def quality_fits(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Any threshold of four tasks in twenty weekly fits, 300 reviews a task and 30 more a week.

    The documents promise 5% for each task and each fit, not for all of them together.
    """
    sizes = [300 + 30 * fit for fit in range(FITS)]
    broken = sum(_learned_wrong(rng, world, sizes, TASKS) for _ in range(draws))
    return share(broken, draws, None)


def _reviewed(rng: np.random.Generator, world: World, n: int) -> tuple[Rows, Traffic | None]:
    """Answers are reviewed as they come: a request that is asked twice may be drawn twice."""
    drawn, traffic = _drawn(rng, world, n)
    if traffic is None:
        return drawn, None
    order = rng.permutation(n)
    return Rows(*(part[order] for part in as_asked(drawn))), traffic


def _learned_wrong(rng: np.random.Generator, world: World, sizes: list[int], tasks: int) -> bool:
    """Whether any threshold lets through more bad answers than it promises."""
    drawn = [_reviewed(rng, world, sizes[-1]) for _ in range(tasks)]
    for size in sizes:
        parts = [Rows(*(part[:size] for part in own)) for own, _ in drawn]
        score = pd.Series(np.concatenate([p.score for p in parts]))
        good = pd.Series(~np.concatenate([p.wrong for p in parts]))
        task = pd.Series(np.repeat([f"t{i}" for i in range(tasks)], [len(p.score) for p in parts]))
        made = promises(
            score,
            good,
            task,
            pd.Series(data=True, index=score.index),
            target_precision=TARGET,
            delta=DELTA,
            auc=0.8,
        )
        for i, (_, traffic) in enumerate(drawn):
            promise = made.get(f"t{i}") or made.get("all other tasks")
            at = promise.threshold if promise else None
            if at is not None and true_error(at, world, traffic) > 1 - TARGET + 1e-9:
                return True
    return False


def gold_check(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The check on gold rows calls one of six groups broken whose answers agree in just 95%."""
    false = 0
    for _ in range(draws):
        states = []
        for _ in NAMES:
            # Served answers, all equally sure: the promise just holds.
            wrong = _just_kept(rng, world, GOLD_ROWS)
            good = int((~wrong).sum())
            states.append(
                promise_state(good, len(wrong), target=TARGET, delta=DELTA, groups=len(NAMES))
            )
        false += "broken" in states
    return share(false, draws)


def _just_kept(rng: np.random.Generator, world: World, n: int) -> np.ndarray:
    from scipy.special import ndtri

    from benchmarks.promise_worlds import latent

    return latent(rng, n, world.unit, world.corr)[0] < ndtri(1 - TARGET)
