"""Promises about live traffic: a student on trial, and the watch on groups that are served.

Not here: what is decided before any live request (``promise_gate.py``).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.promise_worlds import Cell, World, latent, share
from loop_pipeline.rollout.canary import next_stage, step_due
from loop_pipeline.routing.policy import EXPLORATION_RATE

BEGAN = pd.Timestamp("2026-09-01", tz="UTC")
DISCORDANT = 0.10
LIVE = 3_000
# The sensor looks after so many paired requests; in the world of many looks after each tenth.
LOOK = 50
OFTEN = 10
REPLAYED = 3_000
PROMOTED_BY = 1_300
# Allowed where the challenger is ten points worse on live traffic.
PROMOTED = 0.01
LATE = 0.10


def outcomes(rng: np.random.Generator, world: World, live: int, worse: float) -> pd.DataFrame:
    """Paired answers as ``paired_outcomes`` gives them: replayed ones first, then live ones.

    The shadow coin draws the live ones from conversations; the challenger disagrees more often
    there by ``worse``. Replayed, the two are equal.
    """
    asked = math.ceil(live / EXPLORATION_RATE)
    drawn = rng.choice(asked, live, replace=False)
    z = latent(rng, asked, world.unit, world.corr)[0][np.sort(drawn)]
    z = np.concatenate([rng.standard_normal(REPLAYED), z])
    more = np.where(np.arange(len(z)) < REPLAYED, 0.0, worse)
    rate = np.maximum(DISCORDANT, more)
    hours = np.maximum(np.arange(len(z)) - REPLAYED + 1, 0)
    return pd.DataFrame(
        {
            "ts": BEGAN + pd.to_timedelta(hours, unit="min"),
            "challenger_disagrees": z < ndtri((rate + more) / 2),
            "champion_disagrees": z > ndtri(1 - (rate - more) / 2),
        }
    )


def trial(rows: pd.DataFrame, look: int) -> tuple[str, int]:
    """How a trial ends: promoted, stopped or open; and after how many live requests."""
    stage, since = "shadow", BEGAN
    for live in range(look, len(rows) - REPLAYED + 1, look):
        seen = rows.iloc[: REPLAYED + live]
        action = step_due(seen, stage, since).action
        if action == "stop":
            return "stopped", live
        if action == "advance":
            after = next_stage(stage)
            if after is None:
                return "promoted", live
            stage, since = after, seen["ts"].iloc[-1] + pd.Timedelta(seconds=1)
    return "open", len(rows) - REPLAYED


def _ends(
    world: World, draws: int, rng: np.random.Generator, worse: float
) -> list[tuple[str, int]]:
    look = OFTEN if world.looks else LOOK
    return [trial(outcomes(rng, world, LIVE, worse), look) for _ in range(draws)]


def stopped_wrongly(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A challenger at the edge of what is tolerated (one point worse) is stopped."""
    return share(sum(end == "stopped" for end, _ in _ends(world, draws, rng, 0.01)), draws)


def promoted_wrongly(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A challenger that is three points worse on live traffic is promoted."""
    return share(sum(end == "promoted" for end, _ in _ends(world, draws, rng, 0.03)), draws)


def promoted_far_worse(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A challenger that is ten points worse on live traffic, equal on replayed, is promoted."""
    ends = _ends(world, draws, rng, 0.10)
    return share(sum(end == "promoted" for end, _ in ends), draws, PROMOTED)


def promoted_late(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """An equal challenger is not the champion after 1,300 paired live requests."""
    ends = _ends(world, draws, rng, 0.0)
    in_time = sum(end == "promoted" and live <= PROMOTED_BY for end, live in ends)
    return share(draws - in_time, draws, LATE)


def held_late(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A group whose disagreement rises to 10% is not held within 550 shadowed requests.

    Nothing watches a group at this state: there is no function to call, and none is ever held.
    """
    del world, rng
    return share(draws, draws, LATE)
