"""Promises about a student on trial, beside the champion, on live traffic.

Not here: what is decided before any live request (``promise_gate.py``).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.promise_worlds import Cell, Floats, World, latent, share
from loop_pipeline.rollout.canary import next_stage, step_due
from loop_pipeline.routing.policy import ROLLOUT_RATE

BEGAN = pd.Timestamp("2026-09-01", tz="UTC")
DISCORDANT = 0.10
LIVE = 3_000
# The sensor looks after so many paired requests; in the world of many looks after each tenth.
LOOK = 50
OFTEN = 10
PROMOTED_BY = 1_300
# Allowed where the challenger is ten points worse on live traffic.
PROMOTED = 0.01
LATE = 0.10


def drawn_live(rng: np.random.Generator, world: World, n: int, coin: float) -> Floats:
    """What makes about n answers wrong: those a coin draws, the first of each conversation."""
    asked = math.ceil(n / coin) * (3 if world.unit > 1 else 1)
    z, unit = latent(rng, asked, world.unit, world.corr)
    drawn = np.flatnonzero(rng.random(asked) < coin)
    _, first = np.unique(unit[drawn], return_index=True)
    return z[drawn[first]]


def outcomes(rng: np.random.Generator, world: World, live: int, worse: float) -> pd.DataFrame:
    """Paired answers to live requests as ``paired_outcomes`` gives them.

    Only live ones count, whatever replayed answers said: the first that the shadow coin of a
    rollout draws of each conversation.
    """
    z = drawn_live(rng, world, live, ROLLOUT_RATE)
    rate = max(DISCORDANT, worse)
    return pd.DataFrame(
        {
            "ts": BEGAN + pd.to_timedelta(np.arange(1, len(z) + 1), unit="min"),
            "challenger_disagrees": z < ndtri((rate + worse) / 2),
            "champion_disagrees": z > ndtri(1 - (rate - worse) / 2),
        }
    )


def trial(rows: pd.DataFrame, look: int) -> tuple[str, int]:
    """How a trial ends: promoted, stopped or open; and after how many paired live requests."""
    stage, since = "shadow", BEGAN
    for live in range(look, len(rows) + 1, look):
        seen = rows.iloc[:live]
        action = step_due(seen, stage, since).action
        if action == "stop":
            return "stopped", live
        if action == "advance":
            after = next_stage(stage)
            if after is None:
                return "promoted", live
            stage, since = after, seen["ts"].iloc[-1] + pd.Timedelta(seconds=1)
    return "open", len(rows)


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
    """A challenger that is ten points worse on live traffic is promoted."""
    ends = _ends(world, draws, rng, 0.10)
    return share(sum(end == "promoted" for end, _ in ends), draws, PROMOTED)


def promoted_late(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """An equal challenger is not the champion after 1,300 paired live requests."""
    ends = _ends(world, draws, rng, 0.0)
    in_time = sum(end == "promoted" and live <= PROMOTED_BY for end, live in ends)
    return share(draws - in_time, draws, LATE)
