"""When a challenger may serve more, and when it has to go. Pure: paired answers in, a step out.

On requests that the frontier, the champion and the challenger all answered, the challenger is
worse where it alone disagrees with the frontier, and better where the champion alone does. Two
e-processes bet on the difference d of the two rates of disagreement:

- *harm* grows against "d <= 1 point", which is what the gate tolerates; at 20 the rollout stops.
- *safe* grows against "d >= 3 points", which the gate rules out; at 20 the next stage is due.

By Ville's inequality each is wrong with chance at most 5% however often one looks (Waudby-Smith &
Ramdas 2024, betting; here a mixture of constant bets, so that counts are all that is needed).
Simulated in ``loop_pipeline_tests/serving/test_rollout.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from loop_pipeline.stats.e_process import e_value

# Share of conversations that the challenger may answer; after the last stage it is the champion.
STAGES = {"shadow": 0.0, "1%": 0.01, "5%": 0.05, "25%": 0.25}
TOLERATED = 0.01
RULED_OUT = 0.03
EVIDENCE = 20.0  # 1 / 0.05
STAGE_ROWS = 100


@dataclass(frozen=True)
class Step:
    """What the paired answers say, and the figures behind it."""

    action: Literal["wait", "advance", "stop"]
    rows: int
    stage_rows: int
    worse: int
    better: int
    harm: float
    safe: float
    reason: str

    def figures(self) -> dict[str, Any]:
        """The figures alone, ready for JSON."""
        return {k: v for k, v in asdict(self).items() if k not in ("action", "reason")}


def step_due(outcomes: pd.DataFrame, stage: str, since: pd.Timestamp) -> Step:
    """What to do with a rollout.

    Args:
        outcomes: a row per paired request: ts (UTC), challenger_disagrees, champion_disagrees.
        stage: the rollout is in.
        since: when that stage began; it takes 100 rows of its own to leave it.
    """
    challenger = outcomes["challenger_disagrees"].to_numpy(dtype=bool)
    champion = outcomes["champion_disagrees"].to_numpy(dtype=bool)
    worse, better = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    n, here = len(outcomes), int((outcomes["ts"] >= since).sum())
    harm = float(e_value(worse, better, n, TOLERATED))
    safe = float(e_value(better, worse, n, -RULED_OUT))
    counted = f"{n} paired requests, the challenger alone disagrees on {worse}, the champion on"
    said = f"{counted} {better} (harm {harm:.3g}, safe {safe:.3g}, {EVIDENCE:.0f} decides)"
    action = "wait"
    if harm >= EVIDENCE:
        action, said = "stop", f"the challenger disagrees more often: {said}"
    elif here < STAGE_ROWS:
        said = f"{STAGE_ROWS - here} more paired requests needed in stage {stage}: {said}"
    elif safe < EVIDENCE:
        said = f"not yet shown to be no worse by {RULED_OUT * 100:.0f} points: {said}"
    else:
        action, said = "advance", f"no worse by {RULED_OUT * 100:.0f} points: {said}"
    return Step(action, n, here, worse, better, harm, safe, said)


def next_stage(stage: str) -> str | None:
    """The stage after this one; None when the challenger becomes the champion."""
    names = list(STAGES)
    position = names.index(stage) + 1
    return names[position] if position < len(names) else None
