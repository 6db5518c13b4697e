"""Promises about students: what the gate lets through, once and twenty times in a row.

Not here: what a student that passed may answer (``promise_certificates.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.promise_worlds import Cell, Flags, Ints, World, latent, mean, share
from loop_pipeline.evaluation.gate import best_champion, decide

GOLD = 1_000
LADDER_GOLD = 3_000
AGREEMENT = 0.9
DISCORDANT = 0.08
GROUPS = 6
CANDIDATES = 20
STEP = 0.01
# Points that twenty candidates, each a point worse, may cost a champion.
LADDER = 0.02


class Pair(NamedTuple):
    """Two students on the same gold rows, each of shape (n,)."""

    new: Flags
    old: Flags
    unit: Ints


def pair(rng: np.random.Generator, world: World, n: int, worse: float) -> Pair:
    """A champion, and a candidate that agrees less often by ``worse``; 8% of the rows differ."""
    z, unit = latent(rng, n, world.unit, world.corr)
    lost = z < ndtri((DISCORDANT + worse) / 2)
    gained = z > ndtri(1 - (DISCORDANT - worse) / 2)
    both = rng.random(n) < (AGREEMENT - (DISCORDANT + worse) / 2) / (1 - DISCORDANT)
    # An answer of the frontier that is another one than usual agrees with neither.
    known = rng.random(n) >= world.noise
    return Pair((gained | (both & ~lost)) & known, (lost | (both & ~gained)) & known, unit)


def frame(agrees: Flags) -> pd.DataFrame:
    """Judged answers of one student, as ``held_out.judge`` gives them."""
    return pd.DataFrame({"agrees": agrees, "valid": True, "flagged": False}).assign(
        prompt_id=[f"p{i:05d}" for i in range(len(agrees))]
    )


def by_prompt(codes: Ints) -> pd.Series:
    """Names by prompt id: of the task group, or of the unit of each gold row."""
    return pd.Series(codes.astype(str), [f"p{i:05d}" for i in range(len(codes))])


def worse_accepted(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """A candidate that is three points worse passes the rule of agreement on 1,000 gold rows."""
    passed = 0
    for _ in range(draws):
        drawn = pair(rng, world, GOLD, 0.03)
        both = frame(drawn.new), frame(drawn.old)
        passed += decide(*both, units=by_prompt(drawn.unit)).approved
    return share(passed, draws)


def guard_refuses(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """The four guards refuse a candidate that is equal in everything."""
    refused = 0
    for _ in range(draws):
        drawn = pair(rng, world, GOLD, 0.0)
        both, unit = (frame(drawn.new), frame(drawn.old)), by_prompt(drawn.unit)
        found = decide(*both, groups=by_prompt(np.arange(GOLD) % GROUPS), units=unit)
        refused += any("after Holm" in sentence for sentence in found.figures["against"])
    return share(refused, draws)


def ladder(world: World, draws: int, rng: np.random.Generator) -> Cell:
    """Points lost after 20 candidates, each a point worse than the champion of its day.

    Candidates meet the same 3,000 gold rows, and the anchor as the contest finds it.
    """
    return mean(np.array([_end(rng, world) for _ in range(draws)]), LADDER)


def _end(rng: np.random.Generator, world: World) -> float:
    z = latent(rng, LADDER_GOLD, world.unit, world.corr)[0]
    champion, level = z < ndtri(AGREEMENT), AGREEMENT
    earlier: dict[str, pd.DataFrame] = {}
    for number in range(CANDIDATES):
        mover = latent(rng, LADDER_GOLD, world.unit, world.corr)[0]
        lose = mover < ndtri((DISCORDANT + STEP) / 2 / level)
        gain = mover < ndtri((DISCORDANT - STEP) / 2 / (1 - level))
        candidate = np.where(champion, ~lose, gain)
        now = frame(champion)
        anchor = best_champion(now, earlier)
        rows = None if anchor is None else anchor[1]
        if decide(frame(candidate), now, anchor=rows).approved:
            earlier[str(number)] = now
            champion, level = candidate, level - STEP
    return AGREEMENT - level
