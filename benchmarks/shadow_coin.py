"""Is a shadow coin that prefers unsure requests worth more than one coin for all?

It has to cover more with as many labels at the same validity, or it stays out. The chance of a
shadow is in proportion to the root of P(disagree), with a floor of 0.5%, and is logged. What then
reads the labels has to weigh them, and stay valid with few errors: thin them back to one chance and
use the exact test; take exact bounds in strata of what the coin saw, with their shares of the
traffic; or bet on rows that are weighed by one over their chance. P(disagree) = 0.4 (1 - s)^3 for a
score s that is uniform; the coin sees it, or only roughly, as before the student's call.

    python -m benchmarks.shadow_coin
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from benchmarks.record import Start, record, table
from loop_pipeline.stats.fixed_sequence import STEPS, bounded_threshold

ALPHA, DELTA = 0.05, 0.05
UNIFORM = 0.02  # the coin of today
FLOOR = 0.005
DRAWS = 80
STRATA = 4
BETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)

Floats = NDArray[np.float64]


def disagrees(score: Floats) -> Floats:
    """P(disagree) of a request."""
    return 0.4 * (1 - score) ** 3


def coin(score: Floats, *, weighted: bool) -> Floats:
    """The chance of a shadow; over all requests as many are drawn either way."""
    if not weighted:
        return np.full(len(score), UNIFORM)
    root = np.sqrt(disagrees(score))
    grid = np.sqrt(disagrees(np.linspace(0, 1, 4001)))
    low, high = 0.0, 1.0
    for _ in range(60):  # the factor that keeps the number of labels
        middle = (low + high) / 2
        mean = np.clip(middle * grid, FLOOR, 1).mean()
        low, high = (middle, high) if mean < UNIFORM else (low, middle)
    return np.clip(low * root, FLOOR, 1)


class Labels(NamedTuple):
    """Requests that the coin drew, and the scores of all traffic."""

    score: Floats
    error: NDArray[np.bool_]
    chance: Floats
    seen: Floats
    everything: Floats
    everything_seen: Floats


def drawn(rng: np.random.Generator, requests: int, *, weighted: bool, rough: float) -> Labels:
    """A month of traffic."""
    score = rng.random(requests)
    seen = np.clip(score + rough * rng.normal(size=requests), 0, 1)
    chance = coin(seen, weighted=weighted)
    taken = rng.random(requests) < chance
    error = rng.random(requests) < disagrees(score)
    return Labels(score[taken], error[taken], chance[taken], seen[taken], score, seen)


def exact(labels: Labels) -> float:
    """The certificate of today."""
    found = bounded_threshold(labels.score, ~labels.error, alpha=ALPHA, delta=DELTA)
    return 1.0 if found is None else found


def thinned(rng: np.random.Generator, labels: Labels) -> float:
    """Back to one chance, then the exact test."""
    kept = rng.random(len(labels.score)) < labels.chance.min() / labels.chance
    return exact(labels._replace(score=labels.score[kept], error=labels.error[kept]))


def _walk(everything: Floats) -> Iterator[float]:
    """Thresholds from strict to loose, in an order that the scores of the traffic give."""
    for share in np.linspace(0.5, 1.0, STEPS):
        yield float(np.quantile(everything, 1 - share))


def stratified(labels: Labels) -> float:
    """Exact upper bounds in strata of what the coin saw, each weighed by its share."""
    best = 1.0
    for threshold in _walk(labels.everything):
        inside = labels.everything_seen[labels.everything >= threshold]
        edges = np.quantile(inside, np.linspace(0, 1, STRATA + 1)[1:-1])
        shares = np.bincount(np.searchsorted(edges, inside), minlength=STRATA) / len(inside)
        own = labels.score >= threshold
        stratum, wrong = np.searchsorted(edges, labels.seen[own]), labels.error[own]
        bound = 0.0
        for k in range(STRATA):
            n, bad = int((stratum == k).sum()), int((wrong & (stratum == k)).sum())
            most = float(betaincinv(bad + 1, n - bad, 1 - DELTA / STRATA)) if bad < n else 1.0
            bound += shares[k] * most
        if bound > ALPHA:
            break
        best = threshold
    return best


def bets(labels: Labels) -> float:
    """A mixture of bets on rows that are weighed by one over their chance: a valid test."""
    best, lightest = 1.0, labels.chance.min()
    for threshold in _walk(labels.everything):
        own = labels.score >= threshold
        gain = (ALPHA - labels.error[own]) * lightest / labels.chance[own] / (1 - ALPHA)
        logs = [np.log1p(bet * gain).sum() for bet in BETS]
        if np.mean(np.exp(np.minimum(logs, 500))) < 1 / DELTA:
            break
        best = threshold
    return best


def true_risk(threshold: float) -> float:
    """Disagreement among what is served from a threshold on."""
    return 0.1 * (1 - threshold) ** 3 if threshold < 1 else 0.0


def compare(requests: int, rough: float) -> list[dict[str, object]]:
    """Every way to read the labels, on the same number of requests."""
    found: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    for seed in range(DRAWS):
        rng = np.random.default_rng([requests, int(100 * rough), seed])
        one = drawn(rng, requests, weighted=False, rough=rough)
        more = drawn(rng, requests, weighted=True, rough=rough)
        for name, labels, threshold in (
            ("one chance for all, exact test (today)", one, exact(one)),
            ("one chance for all, bets", one, bets(one)),
            ("weighted, thinned to one chance, exact test", more, thinned(rng, more)),
            ("weighted, exact bounds in strata", more, stratified(more)),
            ("weighted, bets", more, bets(more)),
        ):
            found.setdefault(name, []).append(threshold)
            counts.setdefault(name, []).append(len(labels.score))
    return [
        {
            "way": name,
            "kind": "control" if name.startswith("one") else "ours",
            "requests": requests,
            "score of the coin": "rough" if rough else "exact",
            "labels": round(float(np.mean(counts[name]))),
            "certified coverage": float(np.mean([1 - t for t in values])),
            "broken": float(np.mean([true_risk(t) > ALPHA for t in values])),
        }
        for name, values in found.items()
    ]


def estimate(requests: int) -> list[dict[str, object]]:
    """What the weighted coin is good at: the spread of an estimate of the risk of all requests."""
    rows = []
    for weighted in (False, True):
        values = []
        for seed in range(DRAWS):
            rng = np.random.default_rng([requests, 7, seed])
            labels = drawn(rng, requests, weighted=weighted, rough=0.0)
            values.append((labels.error / labels.chance).sum() / requests)
        rows.append(
            {
                "coin": "weighted" if weighted else "one chance for all",
                "requests": requests,
                "mean of the estimates": float(np.mean(values)),
                "standard error": float(np.std(values)),
            }
        )
    gain = (float(rows[0]["standard error"]) / float(rows[1]["standard error"])) ** 2
    rows[1]["labels that one chance would take"] = gain
    return rows


def main() -> None:
    """Measure and write."""
    start = Start()
    rows = [row for n in (10_000, 25_000, 50_000) for r in (0.0, 0.15) for row in compare(n, r)]
    units = {"certified coverage": "share", "broken": "share"}
    tables = [
        table("Certified coverage with the labels of a month, 95% promised at 5%", rows, units),
        table(
            "The spread of an estimated share of disagreement over all requests",
            [row for n in (10_000, 50_000) for row in estimate(n)],
            {"mean of the estimates": "share", "standard error": "share"},
        ),
    ]
    print(record(__file__, __doc__, tables, start))


if __name__ == "__main__":
    main()
