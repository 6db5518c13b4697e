"""Routers that know less than the policy, or everything, on the same requests; and what is proven.

Method: paired bootstrap (Poisson weights) over requests; curves and APGR as RouteLLM measures them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from loop_pipeline.labels.threshold import clopper_pearson
from loop_pipeline.routing.outcomes import Floats, Outcomes

Whole = NDArray[np.int64]
CHUNK = 2**22  # numbers of one block of resamples
POINTS = 101


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


class Curve(BaseModel):
    """Quality against the share of calls to the strong model, best to route first.

    ``points``: share of strong calls, quality, USD a request. APGR and CPT (shares of strong calls
    that recover 50 and 80% of the gap) by 10 equal bins; None: there is no gap to recover. ``bill``
    is what half of the gap costs, as a share of the strong model's bill.
    """

    name: str
    points: list[tuple[float, float, float]]
    apgr: Interval | None
    cpt50: float | None
    cpt80: float | None
    bill: float | None


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
    return _percentiles(
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


def ranked(ease: Floats, seed: int) -> Whole:
    """Rows in the order in which they go to the strong model; ties at random."""
    noise = np.random.default_rng([seed, 3]).random(len(ease))
    return np.lexsort((noise, np.nan_to_num(ease, nan=-np.inf)))


def curve(
    outcomes: Outcomes, name: str, ease: Floats, *, resamples: int, seed: int, after: bool = False
) -> Curve:
    """What a ranking of the requests is worth between the weak model and the reference.

    Args:
        outcomes: the scored requests.
        name: of the ranking.
        ease: shape (n,), the highest are the last to go to the strong model.
        resamples: of the interval of APGR.
        seed: of the ties and resamples.
        after: the ranking needs the weak model's answer, so that it is paid for everything.
    """
    order = ranked(ease, seed)
    weak, strong = (outcomes.quality[order, k] for k in (outcomes.weak, outcomes.reference))
    cheap, dear = (outcomes.cost[order, k] for k in (outcomes.weak, outcomes.reference))
    n = len(order)
    # With the first k rows at the strong model, k from 0 to n.
    y = (weak.sum() + np.concatenate([[0], np.cumsum(strong - weak)])) / n
    passed = dear if after else dear - cheap
    usd = (cheap.sum() + np.concatenate([[0], np.cumsum(passed)])) / n
    at = np.unique(np.linspace(0, n, POINTS).round().astype(int))
    points = [(float(k / n), float(y[k]), float(usd[k])) for k in at]
    deciles = y[np.linspace(0, n, 11).round().astype(int)]
    apgr = float(_apgr(deciles[None])[0])
    if not np.isfinite(apgr):
        return Curve(name=name, points=points, apgr=None, cpt50=None, cpt80=None, bill=None)
    draws = apgr_draws(outcomes, order, resamples=resamples, seed=seed)
    shares = np.linspace(0, 1, 11)
    return Curve(
        name=name,
        points=points,
        apgr=_percentiles(apgr, draws),
        cpt50=_crossing(shares, deciles, 0.5),
        cpt80=_crossing(shares, deciles, 0.8),
        bill=_bill(points, _crossing(shares, deciles, 0.5), float(dear.mean())),
    )


def apgr_draws(outcomes: Outcomes, order: Whole, *, resamples: int, seed: int) -> Floats:
    """APGR of resampled requests, shape (resamples,); the same requests for every order."""
    rng, shares = np.random.default_rng([seed, 4]), np.linspace(0, 1, 11)
    weak = outcomes.quality[order, outcomes.weak]
    gain = outcomes.quality[order, outcomes.reference] - weak
    deciles = np.zeros((resamples, len(shares)))
    for i in range(resamples):
        weight = rng.poisson(1.0, len(order))[order] / len(order)
        share = np.concatenate([[0], np.cumsum(weight)])
        gained = np.concatenate([[0], np.cumsum(weight * gain)])
        deciles[i] = weight @ weak + np.interp(shares * share[-1], share, gained)
    return _apgr(deciles)


def _percentiles(value: float, draws: Floats) -> Interval:
    found = draws[np.isfinite(draws)]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (value, value)
    return Interval(value=value, low=float(min(low, value)), high=float(max(high, value)))


def random_curve(outcomes: Outcomes) -> Curve:
    """What a coin gives in expectation: the straight line between the two models."""
    weak, strong = outcomes.weak, outcomes.reference
    ends = [(outcomes.quality[:, k].mean(), outcomes.cost[:, k].mean()) for k in (weak, strong)]
    (low, cheap), (high, dear) = ends
    points = [
        (float(x), float(low + x * (high - low)), float(cheap + x * (dear - cheap)))
        for x in (0.0, 1.0)
    ]
    gap = high - low > 1e-9
    return Curve(
        name="random",
        points=points,
        apgr=Interval(value=0.5, low=0.5, high=0.5) if gap else None,
        cpt50=0.5 if gap else None,
        cpt80=0.8 if gap else None,
        bill=_bill(points, 0.5, float(dear)) if gap else None,
    )


def _bill(
    points: list[tuple[float, float, float]], share: float | None, dear: float
) -> float | None:
    """USD of a curve at a share of strong calls, as a part of what strong calls alone cost."""
    if share is None or dear <= 0:
        return None
    x, _, usd = zip(*points, strict=True)
    return float(np.interp(share, x, usd)) / dear


def _apgr(deciles: Floats) -> Floats:
    """Average gap recovered over shares of strong calls; rows of 11 qualities, shape (b, 11)."""
    low, gap = deciles[:, 0], deciles[:, -1] - deciles[:, 0]
    area = np.trapezoid(deciles, dx=0.1, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(gap > 1e-9, (area - low) / gap, np.nan)


def _crossing(x: Floats, y: Floats, recovered: float) -> float | None:
    """The first share of strong calls at which so much of the gap is recovered."""
    level = y[0] + recovered * (y[-1] - y[0])
    over = np.flatnonzero(y >= level - 1e-12)
    if not len(over):
        return None
    k = int(over[0])
    if k == 0:
        return float(x[0])
    return float(x[k - 1] + (level - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1]))
