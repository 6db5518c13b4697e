"""When a challenger may serve more, and when it has to go. Pure: paired answers in, a step out.

Not here: which answers count (``canary_evidence.py``). Live ones only: the held-out replay was the
gate's evidence, and says nothing about traffic that differs from it.

On requests that the frontier, the champion and the challenger all answered, the challenger is
worse where it alone disagrees with the frontier, and better where the champion alone does. Two
e-processes bet on the difference d of the two rates of disagreement:

- *harm* grows against "d <= 1 point", which is what the gate tolerates; at 20 the rollout stops.
- *safe* grows against "d >= 3 points", which the gate rules out; at 20 the next stage is due.

By Ville's inequality each is wrong with chance at most 5% however often one looks (Waudby-Smith &
Ramdas 2024, betting; here a mixture of constant bets, so that counts are all that is needed). What
was once proven stays so: the highest evidence there ever was decides, not the newest.
Simulated in ``loop_pipeline_tests/rollout/test_canary.py``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.stats.e_process import e_value

# Share of conversations that the challenger may answer; after the last stage it is the champion.
STAGES = {"shadow": 0.0, "1%": 0.01, "5%": 0.05, "25%": 0.25}
TOLERATED = 0.01
RULED_OUT = 0.03
EVIDENCE = 20.0  # 1 / 0.05
# Paired requests of its own that it takes to leave the shadow stage, and each later one. All three
# models answer them in every stage, so that later ones only have to show that nothing broke.
SHADOW_ROWS = 100
STAGE_ROWS = 25


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


def step_due(outcomes: pd.DataFrame, stage: str, since: pd.Timestamp, before: int = 0) -> Step:
    """What to do with a rollout.

    Args:
        outcomes: a row per paired live request, in the order they came: ts (UTC),
            challenger_disagrees, champion_disagrees.
        stage: the rollout is in.
        since: when that stage began; it takes rows of its own to leave it.
        before: how many rows there were then; a clock that is ahead makes none of them newer.
    """
    challenger = outcomes["challenger_disagrees"].to_numpy(dtype=bool)
    champion = outcomes["champion_disagrees"].to_numpy(dtype=bool)
    alone, other = challenger & ~champion, champion & ~challenger
    worse, better = int(alone.sum()), int(other.sum())
    n = len(outcomes)
    here = max(0, min(n - before, int((outcomes["ts"] >= since).sum())))
    # Rows of one moment have no order among themselves: looked at when all of them are in.
    last = ~outcomes["ts"].duplicated(keep="last").to_numpy()
    harm = _highest(alone, other, TOLERATED, last)
    safe = _highest(other, alone, -RULED_OUT, last)
    nobody = "no live request was answered by frontier, champion and challenger yet, and only"
    counted = f"{n} paired live requests, the challenger alone disagrees on {worse}, the champion"
    said = f"{counted} on {better} (harm {harm:.3g}, safe {safe:.3g}, {EVIDENCE:.0f} decides)"
    action, due = "wait", STAGE_ROWS if STAGES[stage] else SHADOW_ROWS
    if harm >= EVIDENCE:
        action, said = "stop", f"the challenger disagrees more often: {said}"
    elif here < due:
        said = said if n else f"{nobody} those that the shadow coin draws are"
        said = f"{due - here} more paired requests needed in stage {stage}: {said}"
    elif safe < EVIDENCE:
        said = f"not yet shown to be no worse by {RULED_OUT * 100:.0f} points: {said}"
    else:
        action, said = "advance", f"no worse by {RULED_OUT * 100:.0f} points: {said}"
    return Step(action, n, here, worse, better, harm, safe, said)


def _highest(
    up: NDArray[np.bool_], down: NDArray[np.bool_], bound: float, last: NDArray[np.bool_]
) -> float:
    """The highest evidence there ever was, looked at after these rows; 1 before the first."""
    n = np.arange(1, len(up) + 1)
    wealth = e_value(np.cumsum(up)[last], np.cumsum(down)[last], n[last], bound)
    return float(wealth.max(initial=1.0))


def next_stage(stage: str) -> str | None:
    """The stage after this one; None when the challenger becomes the champion."""
    names = list(STAGES)
    position = names.index(stage) + 1
    return names[position] if position < len(names) else None
