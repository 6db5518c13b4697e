"""Routers that know less than the policy, or everything, on the same requests.

Not here: the policy itself (``rehearsal.py``, ``from_store.py``).

Method: paired bootstrap over requests (Poisson weights).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from loop_pipeline.doctor.outcome_table import Floats, Outcomes
from loop_pipeline.stats.binomial import clopper_pearson

Whole = NDArray[np.int64]
CHUNK = 2**22  # numbers of one block of resamples


class Interval(BaseModel):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class Control(BaseModel):
    """One router on the scored requests.

    ``agreement`` is among what it sends to another model than the reference (None: nothing), with
    an exact interval; of the random one the interval is over its own draws. ``usd`` is a request.
    """

    name: str
    share_away: float
    agreement: Interval | None
    quality: Interval
    usd: float


class Comparison(BaseModel):
    """The policy less a control, on the same requests."""

    control: str
    what: str
    difference: Interval


def random_routes(outcomes: Outcomes, draws: int, seed: int) -> tuple[Floats, Floats]:
    """Agreement among cheap calls and quality of ``draws`` shuffles of the policy's choices."""
    rng = np.random.default_rng([seed, 1])
    rows, good = np.arange(len(outcomes.chosen)), outcomes.good
    agreement, quality = np.full(draws, np.nan), np.zeros(draws)
    for i in range(draws):
        chosen = rng.permutation(outcomes.chosen)
        cheap = chosen != outcomes.reference
        quality[i] = outcomes.quality[rows, chosen].mean()
        if cheap.any():
            agreement[i] = good[rows, chosen][cheap].mean()
    return agreement, quality


def by_length(outcomes: Outcomes) -> Whole:
    """The policy's choices dealt out by length: the shortest prompts to the cheapest model."""
    price = np.argsort(np.argsort(outcomes.cost.mean(axis=0), kind="stable"), kind="stable")
    dealt = outcomes.chosen[np.argsort(price[outcomes.chosen], kind="stable")]
    chosen = np.empty_like(dealt)
    chosen[np.argsort(outcomes.length, kind="stable")] = dealt
    return chosen


def by_oracle(outcomes: Outcomes) -> Whole:
    """The best answer of every request, of several the cheapest."""
    best = outcomes.quality >= outcomes.quality.max(axis=1, keepdims=True) - 1e-12
    return np.where(best, outcomes.cost, np.inf).argmin(axis=1)


def control(outcomes: Outcomes, name: str, chosen: Whole, paid: Floats | None = None) -> Control:
    """The figures of one router.

    Args:
        outcomes: the scored requests.
        name: of the router.
        chosen: shape (n,), who answers.
        paid: shape (n,), USD; None: the price of the answer.
    """
    rows = np.arange(len(chosen))
    cheap = chosen != outcomes.reference
    right = int(outcomes.good[rows, chosen][cheap].sum())
    quality = outcomes.quality[rows, chosen]
    usd = outcomes.cost[rows, chosen] if paid is None else paid
    return Control(
        name=name,
        share_away=float(cheap.mean()),
        agreement=exact(right, int(cheap.sum())) if cheap.any() else None,
        quality=mean_interval(quality),
        usd=float(usd.mean()),
    )


def exact(good: int, n: int) -> Interval:
    """A share with its exact binomial interval."""
    low, high = clopper_pearson(good, n)
    return Interval(value=good / n, low=low, high=high)


def mean_interval(values: Floats) -> Interval:
    """A mean: exact interval where all values are 0 or 1, else normal."""
    if np.isin(values, (0.0, 1.0)).all():
        return exact(int(values.sum()), len(values))
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values))
    mean = float(values.mean())
    return Interval(value=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))


def bootstrap(
    columns: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    resamples: int,
    seed: int,
) -> Interval:
    """A statistic of column means with its percentile interval over resampled requests.

    Args:
        columns: shape (n, k).
        statistic: of column means, shape (b, k), to values of shape (b,).
        resamples: how many.
        seed: of the resamples.
    """
    rng, n = np.random.default_rng([seed, 2]), len(columns)
    drawn = []
    step = max(1, CHUNK // n)
    for start in range(0, resamples, step):
        weight = rng.poisson(1.0, (min(step, resamples - start), n)).astype(float)
        weight[weight.sum(axis=1) == 0] = 1.0  # of very few rows none may be drawn
        drawn.append(weight @ columns / weight.sum(axis=1, keepdims=True))
    return percentiles(
        float(statistic(columns.mean(axis=0)[None])[0]), statistic(np.concatenate(drawn))
    )


def against(
    outcomes: Outcomes, name: str, other: Whole | None, *, resamples: int, seed: int
) -> list[Comparison]:
    """The policy less another router: agreement among cheap calls, and quality.

    Args:
        outcomes: the scored requests.
        name: of the other router.
        other: shape (n,), its choices; None: what a shuffle of the policy's gives on average.
        resamples: of the bootstrap.
        seed: of the resamples.
    """
    n, m = outcomes.quality.shape
    rows, good = np.arange(n), outcomes.good.astype(float)
    share = np.bincount(outcomes.chosen, minlength=m) / n
    cheap = (outcomes.chosen != outcomes.reference).astype(float)
    if other is None:
        weight = np.where(np.arange(m) == outcomes.reference, 0.0, share)
        theirs = [good @ weight, np.full(n, weight.sum()), outcomes.quality @ share]
    else:
        sent = (other != outcomes.reference).astype(float)
        theirs = [good[rows, other] * sent, sent, outcomes.quality[rows, other]]
    ours = [good[rows, outcomes.chosen] * cheap, cheap, outcomes.quality[rows, outcomes.chosen]]
    columns = np.stack([*ours, *theirs], axis=1)

    def agreement(c: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return c[:, 0] / c[:, 1] - c[:, 3] / c[:, 4]

    found = []
    if cheap.any() and theirs[1].any():
        gap = bootstrap(columns, agreement, resamples=resamples, seed=seed)
        found.append(Comparison(control=name, what="agreement", difference=gap))
    gap = bootstrap(columns, lambda c: c[:, 2] - c[:, 5], resamples=resamples, seed=seed)
    return [*found, Comparison(control=name, what=outcomes.measure, difference=gap)]


def hull(usd: Floats, quality: Floats) -> list[int]:
    """Models on the upper left hull of cost and quality: no mix of others is better and cheaper."""
    order = [int(i) for i in np.lexsort((-quality, usd))]
    kept: list[int] = []
    for i in order:
        if kept and quality[i] <= quality[kept[-1]] + 1e-12:
            continue  # dominated: dearer and no better
        while len(kept) > 1 and _below(kept[-2], kept[-1], i, usd, quality):
            kept.pop()
        kept.append(i)
    return kept


def _below(a: int, b: int, c: int, usd: Floats, quality: Floats) -> bool:
    """Whether b lies on or under the line from a to c."""
    return bool(
        (quality[b] - quality[a]) * (usd[c] - usd[a])
        <= (quality[c] - quality[a]) * (usd[b] - usd[a]) + 1e-18
    )


def against_mix(outcomes: Outcomes, *, resamples: int, seed: int) -> Interval:
    """Quality of the policy less that of the best random mix of single models at its cost."""
    m = len(outcomes.models)
    own = outcomes.quality[np.arange(len(outcomes.chosen)), outcomes.chosen]
    columns = np.column_stack([own, outcomes.paid, outcomes.quality, outcomes.cost])

    def gap(c: Floats) -> Floats:
        found = np.zeros(len(c))
        for i, row in enumerate(c):
            quality, usd = row[2 : 2 + m], row[2 + m :]
            on = hull(usd, quality)
            found[i] = row[0] - np.interp(row[1], usd[on], quality[on])
        return found

    return bootstrap(columns, gap, resamples=resamples, seed=seed)


def percentiles(value: float, draws: Floats) -> Interval:
    """A value with the middle 95% of its resampled draws, of those that are numbers."""
    found = draws[np.isfinite(draws)]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (value, value)
    return Interval(value=value, low=float(min(low, value)), high=float(max(high, value)))
