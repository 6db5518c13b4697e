"""Quality against the share of strong calls, without a promise; APGR and CPT as RouteLLM's.

Not here: promises (``confidence/certificate.py``).
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel

from loop_pipeline.doctor.controls import Interval, Whole, percentiles
from loop_pipeline.doctor.outcome_table import Floats, Outcomes

POINTS = 101


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
        apgr=percentiles(apgr, draws),
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
