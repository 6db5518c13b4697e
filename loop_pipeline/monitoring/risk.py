"""What served answers say about a group's promise. Pure: outcomes in, an alarm out.

Not here: reading them, and what an alarm sets off (``risk_watch.py``).

Against "at most 5% of the served answers disagree with the frontier" e-processes bet on one
group's answers of one model: served, drawn by the shadow coin, the first of each conversation. A
fresh one begins every 500 rows and lives for 2,000, as one that saw good months has lost its
wealth. At 100 in any of them the alarm rings: of one of them it is wrong with chance at most 1%,
however often one looks. Simulated in ``benchmarks/risk.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loop_pipeline.stats.e_process import RESTART, restarted_e_values

ALARM = 100.0
# From here on more is looked at, so that an alarm, if it is one, comes sooner.
WARNING = 10.0
# So many rows without a warning, and more is not shadowed than the policy says.
CALM_ROWS = 300


@dataclass(frozen=True)
class Risk:
    """Where a stream stands.

    ``rows`` counts all of it; ``checked`` and ``disagreeing`` its newest 500; ``evidence`` is the
    highest wealth now, ``highest`` the highest among the rows that were handed in; ``calm``: the
    newest 300 rows give no reason to look closer.
    """

    rows: int
    checked: int
    disagreeing: int
    evidence: float
    highest: float
    calm: bool

    @property
    def alarm(self) -> bool:
        """Whether the promise has to be called broken."""
        return self.highest >= ALARM

    def sentence(self, bound: float) -> str:
        """The figures in words."""
        return (
            f"{self.disagreeing} of the last {self.checked} served answers that were checked"
            f" disagree with the frontier, promised were at most {bound:.1%} (evidence"
            f" {max(self.evidence, self.highest if self.alarm else 0):.3g}, {ALARM:.0f} decides)"
        )


def risk_of(rows: int, outcomes: Sequence[bool], bound: float) -> Risk:
    """Judge a stream.

    Args:
        rows: how many it has.
        outcomes: whether its newest answers disagree, oldest first, from a row on whose number is a
            multiple of 500: those of the last 2,000 rows at least, and all that are new.
        bound: share of disagreement that was promised at most.
    """
    values = np.asarray(outcomes, dtype=float)
    wealth = restarted_e_values(values, bound)
    newest, calm = values[-RESTART:], slice(-CALM_ROWS, None)
    return Risk(
        rows=rows,
        checked=len(newest),
        disagreeing=int(newest.sum()),
        evidence=float(wealth[-1]) if len(wealth) else 1.0,
        highest=float(wealth.max(initial=1.0)),
        calm=len(values) >= CALM_ROWS
        and float(wealth[calm].max()) < WARNING
        and float(values[calm].mean()) <= bound,
    )
