"""Promises about figures: intervals that cover, and errors that are not flattered.

Not here: alarms (``promise_alarms.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from benchmarks.promise_policies import NAMES, serving_policy
from benchmarks.promise_worlds import (
    INDEPENDENT,
    MEAN_WRONG,
    WORST,
    Cell,
    Flags,
    Floats,
    Ints,
    World,
    as_asked,
    latent,
    mean,
    repeated,
    rows,
    share,
)
from loop_pipeline.labels.quality.model import fit_quality
from loop_pipeline.routing.off_policy_gate import estimate_on_rows
from loop_pipeline.stats.calibration import reliability
from loop_pipeline.stats.ppi import ppi_mean

ANSWERS = 3_000
REVIEW_RATE = 0.15
GOLD = 1_000
LIVE = 2_000
COIN = 0.02
SERVED = 0.8
LABELS = 1_000
# How much less error a score may show than it has on new answers, on average.
FLATTERED = 0.005


def mean_quality(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The 95% interval of the share of good answers misses it; 3:1 review chances."""
    missed = 0
    for _ in range(draws):
        score, wrong, unit, truth = _scored(rng, world)
        chance = np.where(score < np.quantile(score, 0.25), 3 * REVIEW_RATE, REVIEW_RATE)
        names = [f"a{i}" for i in range(len(score))]
        reviewed = rng.random(len(score)) < chance
        known = pd.Series(~wrong, index=names)[reviewed]
        scores, p_review = pd.Series(score, index=names), pd.Series(chance, index=names)
        units = pd.Series(unit.astype(str), index=names)
        found = ppi_mean(known, scores, p_review[reviewed], units)
        missed += found is None or not found.low <= truth <= found.high
    return share(missed, draws)


def _scored(rng: np.random.Generator, world: World) -> tuple[Floats, Flags, Ints, float]:
    """P(good), truth and unit of answers in traffic, and the true share of good ones."""
    if world.zipf:
        drawn, traffic = repeated(rng, world, ANSWERS)
        own, truth = as_asked(drawn), 1 - float(traffic.weight @ traffic.wrong)
    else:
        own = rows(rng, world, ANSWERS)
        truth = 1 - (world.noise + (1 - world.noise) * MEAN_WRONG)
    return 1 - WORST * (1 - own.score) ** 3, own.wrong, own.unit, truth


def off_policy(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The 95% interval of the agreement of what would be served misses it.

    1,000 gold and 2,000 live requests; the frontier answers 2% of the live ones as well.
    """
    bundle, missed = serving_policy(NAMES[:1]), 0
    for _ in range(draws):
        logged, truth = logged_rows(rng, world)
        found = estimate_on_rows(logged, bundle).agreement
        missed += found is None or not found.dr_low <= truth <= found.dr_high
    return share(missed, draws)


def off_policy_refuses(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A policy that keeps its promise is refused, on the same requests."""
    bundle = serving_policy(NAMES[:1])
    refused = sum(
        not estimate_on_rows(logged_rows(rng, world)[0], bundle).passed for _ in range(draws)
    )
    return share(refused, draws)


def logged_rows(rng: np.random.Generator, world: World) -> tuple[pd.DataFrame, float]:
    """Logged requests as ``logged_requests`` gives them, and the agreement among the served."""
    n = GOLD + LIVE
    z, unit = latent(rng, n, world.unit, world.corr)
    wrong = 0.04 * (1 - world.noise) + world.noise
    serves, agrees = rng.random(n) < SERVED, z >= ndtri(wrong)
    gold = np.arange(n) < GOLD
    # Of a live request that the student was unsure of, the frontier's answer went out.
    asked = gold | ~serves | (rng.random(n) < COIN)
    frame = pd.DataFrame(
        {
            "prompt_id": [f"p{i:05d}" for i in range(n)],
            "cluster": [f"u{u}" for u in unit],
            "group_id": NAMES[0],
            "length": 100.0,
            "replayed": gold,
            "p_model": 1.0,
            "p_frontier": np.where(gold | ~serves, 1.0, COIN),
            "serves": serves.astype(float),
            "agrees": np.where(asked, agrees, np.nan).astype(float),
            "frontier_answered": asked,
            "frontier_usd": np.where(asked, 0.01, np.nan),
            "frontier_quality": np.nan,
            "model_quality": np.nan,
        }
    )
    return frame, 1 - wrong


def shown_error(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """ECE on new answers less the ECE that is shown, of a score fitted to 1,000 reviews."""
    gaps = []
    for _ in range(draws):
        features, good, units = _signals(rng, world, LABELS)
        task = pd.Series("t", index=features.index)
        model = fit_quality(
            features,
            task,
            good.to_frame("good"),
            None,
            units,
            target_precision=0.95,
            delta=0.05,
        ).model
        fresh, truth, _ = _signals(rng, INDEPENDENT, LABELS)
        p = model.predict(fresh, pd.Series("t", index=fresh.index)).to_numpy(float)
        new = reliability(p, truth.to_numpy(bool))["ece"]
        gaps.append(new - model.figures["ece"])
    return mean(np.array(gaps), FLATTERED)


def _signals(
    rng: np.random.Generator, world: World, n: int
) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Four noisy signals of answers, whether each is good, and its conversation."""
    z, unit = latent(rng, n, world.unit, world.corr)
    x = rng.standard_normal((n, 4))
    names = pd.Index([f"a{i}" for i in range(n)])
    chance = expit(1.5 + x @ np.array([1.0, 0.7, 0.4, 0.0]))
    good = pd.Series(z < ndtri(chance), index=names)
    frame = pd.DataFrame(x, index=names, columns=pd.Index(["one", "two", "three", "four"]))
    return frame, good, pd.Series(unit.astype(str), index=names)
