"""The worlds that ``promises.py`` tries promises in: rows whose truth is known.

Not here: what is promised (``promise_certificates.py`` and its neighbours).

A student's answer with score s, uniform on [0, 1], is wrong with chance 0.4 (1 - s)^3: it agrees
in 90% of all requests, and a threshold keeps 95% from s = 0.206 on. Rows of a unit (a conversation,
near-duplicates) share a part of what makes them wrong: ``corr`` of its variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from loop_pipeline.stats.binomial import clopper_pearson

TARGET = 0.95
DELTA = 0.05
# Of a cell's interval: three standard deviations, since a table has a hundred cells.
LEVEL = 0.9973
# How often the student is wrong at score 0, and over all scores.
WORST = 0.4
MEAN_WRONG = WORST / 4
# Distinct requests that the traffic of a world with repeats is made of.
POOL = 5_000
# Share of them that is held out for calibration, and how often each is asked on average, where
# requests are held out whole, with all their repeats.
HELD_OUT = 0.15
ASKED = 10
# How often a frontier that is asked again gives another answer, in the noisy world.
NOISE = 0.03

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """What is unkind about the traffic; the defaults are kind."""

    name: str
    unit: int = 1
    """Rows of a conversation."""
    corr: float = 0.0
    """Share of what makes a row wrong that its whole unit has in common (latent correlation)."""
    alike: bool = False
    """The scores of a unit are as much alike as its errors."""
    zipf: float = 0.0
    """Exponent of the repeats; 0: every request is asked once."""
    whole: bool = False
    """Requests are held out by a coin, with all their repeats, not drawn as they are asked."""
    noise: float = 0.0
    """How often the frontier does not agree with itself."""
    drift: float = 0.0
    """Share of the answers that are right where rows are drawn, and wrong later."""
    looks: bool = False
    """One looks again and again, as new rows come in."""


INDEPENDENT = World("independent rows")
UNITS = (
    World("units of 5, correlation 0.6", unit=5, corr=0.6),
    World("units of 5, correlation 0.9", unit=5, corr=0.9),
    World("units of 10, correlation 0.6", unit=10, corr=0.6),
    World("units of 10, correlation 0.9", unit=10, corr=0.9),
    World("units of 10, correlation 0.9, scores too", unit=10, corr=0.9, alike=True),
)
REPEATS = (
    *(World(f"repeats, Zipf {a}", zipf=a) for a in (0.8, 1.0, 1.2)),
    World("repeats, Zipf 1.0, held out whole", zipf=1.0, whole=True),
)
NOISY = World("frontier noise 3%", noise=NOISE)
DRIFT = World("drift after the test", drift=0.05)
LOOKS = World("repeated looks", looks=True)
WORLDS = (INDEPENDENT, *UNITS, *REPEATS, NOISY, DRIFT, LOOKS)


class Rows(NamedTuple):
    """Answers of a student, each of shape (n,): one row a distinct request."""

    score: Floats
    wrong: Flags
    unit: Ints
    times: Ints
    """How often the request is asked in the traffic that was seen."""


class Traffic(NamedTuple):
    """All that can be asked, for the truth: shares of the requests, each of shape (k,)."""

    score: Floats
    wrong: Flags
    weight: Floats


class Cell(NamedTuple):
    """One promise in one world: what was found beside what is allowed."""

    value: float
    low: float
    high: float
    draws: int
    allowed: float | None
    """None: nothing is promised in such a world."""
    served: float | None = None
    """Mean share of the requests that the promise is made for: never to promise keeps any."""

    @property
    def over(self) -> bool:
        """Whether chance does not explain that more is broken than is allowed."""
        return self.allowed is not None and self.low > self.allowed

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.allowed is None:
            return "not promised"
        return "OVER" if self.over else "kept"


def share(
    broken: int, draws: int, allowed: float | None = DELTA, served: float | None = None
) -> Cell:
    """A share of draws with its exact interval."""
    low, high = clopper_pearson(broken, draws, LEVEL)
    return Cell(broken / draws, low, high, draws, allowed, served)


def mean(values: Floats, allowed: float | None) -> Cell:
    """A mean over draws with its normal interval of three standard deviations."""
    half = 3 * float(values.std(ddof=1)) / math.sqrt(len(values))
    at = float(values.mean())
    return Cell(at, at - half, at + half, len(values), allowed)


def latent(rng: np.random.Generator, n: int, size: int, corr: float) -> tuple[Floats, Ints]:
    """Standard normal numbers, alike within units of this size, and each row's unit."""
    unit = np.arange(n) // size
    shared = rng.standard_normal(int(unit[-1]) + 1)[unit]
    return math.sqrt(corr) * shared + math.sqrt(1 - corr) * rng.standard_normal(n), unit


def chance_wrong(score: Floats, world: World = INDEPENDENT) -> Floats:
    """How often an answer with this score disagrees with what the frontier says this time."""
    wrong = WORST * (1 - score) ** 3
    return world.noise + (1 - world.noise) * wrong


def rows(rng: np.random.Generator, world: World, n: int) -> Rows:
    """Rows of a world without repeats."""
    score = rng.random(n)
    if world.alike:
        score = ndtr(latent(rng, n, world.unit, world.corr)[0])
    z, unit = latent(rng, n, world.unit, world.corr)
    wrong = z < ndtri(chance_wrong(score, world))
    return Rows(score, wrong, unit, np.ones(n, dtype=np.int64))


def repeated(rng: np.random.Generator, world: World, n: int) -> tuple[Rows, Traffic]:
    """The distinct ones of n requests of a pool in which some are asked again and again.

    Held out whole it is up to n distinct ones, each drawn with the same chance.
    """
    size = round(n / HELD_OUT) if world.whole else POOL
    pool = rows(rng, World(world.name), size)
    weight = np.arange(1.0, size + 1) ** -world.zipf
    weight = weight / weight.sum()
    times = rng.multinomial(ASKED * size if world.whole else n, weight)
    seen = np.flatnonzero(times * (rng.random(size) < HELD_OUT) if world.whole else times)
    drawn = Rows(pool.score[seen], pool.wrong[seen], seen, times[seen])
    return drawn, Traffic(pool.score, pool.wrong, weight)


def as_asked(drawn: Rows) -> Rows:
    """A row a request of the traffic, each a conversation of its own."""
    score, wrong = (np.repeat(part, drawn.times) for part in (drawn.score, drawn.wrong))
    return Rows(score, wrong, np.arange(len(score)), np.ones(len(score), dtype=np.int64))


def true_error(threshold: float, world: World, traffic: Traffic | None = None) -> float:
    """Share of wrong answers among those that a threshold serves, in all traffic to come."""
    if traffic is None:
        error = MEAN_WRONG * (1 - min(max(threshold, 0.0), 1.0)) ** 3
        noisy = world.noise + (1 - world.noise) * error
        return world.drift + (1 - world.drift) * noisy
    taken = traffic.score >= threshold
    weight = traffic.weight[taken]
    return float(weight @ traffic.wrong[taken] / weight.sum()) if weight.sum() else 0.0


def served(threshold: float | None, traffic: Traffic | None = None) -> float:
    """Share of the traffic that a threshold serves; None serves nothing."""
    if threshold is None:
        return 0.0
    if traffic is None:
        return 1 - min(max(threshold, 0.0), 1.0)
    return float(traffic.weight[traffic.score >= threshold].sum())
