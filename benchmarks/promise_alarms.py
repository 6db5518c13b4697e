"""Promises about alarms: they ring where something is wrong, and seldom where nothing is.

Not here: the trial of a new student (``promise_live.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.promise_live import BEGAN, drawn_live
from benchmarks.promise_policies import NAMES, answers, serving_policy
from benchmarks.promise_worlds import TARGET, Cell, Floats, Rows, World, latent, share
from loop_pipeline.groups.embedding.vector_store import time_units
from loop_pipeline.monitoring.risk import ALARM
from loop_pipeline.monitoring.shadow_share import CLOSE
from loop_pipeline.routing.gold_check import MIN_POWER, check_on_gold, verdicts
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.stats.e_process import restarted_e_values
from loop_pipeline.stats.mmd import ALARM as UNLIKE
from loop_pipeline.stats.mmd import novelty

# Served gold rows of each of six groups.
GOLD_ROWS = 150
# The watch: answers before a change, by when it is noticed, and what may ring wrongly in so many.
GOOD_ROWS = 2_000
HELD_BY = 550
WATCHED = 4_000
LATE = 0.10
FALSELY = 0.015
AT_THE_EDGE = 0.06
WINDOW = 200
REFERENCE = 800
TOPICS = 40
DIMENSIONS = 32


def gold_check(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The check on gold rows calls a group broken, though all of six agree in just 95%."""
    bundle = serving_policy(NAMES)
    told = [_verdicts(bundle, rng, world, TARGET) for _ in range(draws)]
    return share(sum("broken" in said for said in told), draws)


def gold_check_blind(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The check on gold rows finds nothing and does not say so, though all six agree in 90%."""
    bundle = serving_policy(NAMES)
    told = [_verdicts(bundle, rng, world, 0.9) for _ in range(draws)]
    return share(sum(not said & {"broken", "cannot tell"} for said in told), draws, 1 - MIN_POWER)


def _verdicts(
    bundle: PolicyBundle, rng: np.random.Generator, world: World, agreement: float
) -> set[str]:
    gold = {}
    for name in NAMES:
        z, unit = latent(rng, GOLD_ROWS, world.unit, world.corr)
        ones = np.ones(GOLD_ROWS)
        # All of them are surer than any threshold.
        gold[name] = Rows(ones, z < ndtri(1 - agreement), unit, ones.astype(np.int64))
    found = check_on_gold(bundle, answers(gold, split="gold"))
    told = verdicts(found.assign(who="champion", delta=bundle.delta))
    # That a group alone cannot tell is as it should be, where all of them together can.
    whole = told["group_id"] == "all"
    return {*told.loc[whole | (told["verdict"] == "broken"), "verdict"]}


def novelty_alarm(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Traffic of the same 40 topics is called unlike; a conversation stays with its topic."""
    rang = 0
    for _ in range(draws):
        topics = rng.standard_normal((TOPICS, DIMENSIONS))
        n = WINDOW + REFERENCE
        topic = rng.integers(TOPICS, size=n // world.unit + 1).repeat(world.unit)[:n]
        vectors = topics[topic] + 0.3 * rng.standard_normal((n, DIMENSIONS))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        talk = [f"c{i}" for i in np.arange(n) // world.unit]
        asked = pd.DataFrame({"conversation_id": talk, "user_hash": None})
        units = time_units(asked.assign(ts=BEGAN + pd.to_timedelta(np.arange(n), unit="min")))
        newest = units >= units[REFERENCE]
        seed = int(rng.integers(2**31))
        found = novelty(vectors[newest], vectors[~newest], units[newest], units[~newest], seed=seed)
        rang += found.p_value is not None and found.p_value <= UNLIKE
    return share(rang, draws)


def held_late(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A group that disagrees in 3% of 2,000 answers and then in 10% is not held 550 answers later.

    Answers are those served that the shadow coin drew, the first of each conversation.
    """
    rate = np.repeat([0.03, 0.10], [GOOD_ROWS, HELD_BY])
    late = sum(_first_alarm(rng, world, rate) is None for _ in range(draws))
    return share(late, draws, LATE)


def held_wrongly(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A group that disagrees in 4%, a point less than it may, is held within 4,000 answers."""
    rate = np.full(WATCHED, 0.04)
    held = sum(_first_alarm(rng, world, rate) is not None for _ in range(draws))
    return share(held, draws, FALSELY)


def held_at_the_edge(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A group that disagrees in exactly 5% is held within 4,000 answers."""
    rate = np.full(WATCHED, 1 - TARGET)
    held = sum(_first_alarm(rng, world, rate) is not None for _ in range(draws))
    return share(held, draws, AT_THE_EDGE)


def _first_alarm(rng: np.random.Generator, world: World, rate: Floats) -> int | None:
    """Number of the checked answer at which the alarm rings, each wrong at its rate."""
    z = drawn_live(rng, world, len(rate), CLOSE)[: len(rate)]
    rang = restarted_e_values(z < ndtri(rate[: len(z)]), 1 - TARGET) >= ALARM
    return int(rang.argmax()) if rang.any() else None
