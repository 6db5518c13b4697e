"""Is anybody looking? A student that serves while no answer of it is checked promises nothing.

Not here: what follows (``risk_watch.py``).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Engine

from loop_pipeline.routing.policy import EXPLORATION_RATE
from loop_pipeline.store.policies import serves_since
from loop_pipeline.store.watch.served_pairs import newest_evidence, served_since

# A silence of so long is looked into.
BLIND_MINUTES = 60
# Answers that the coin would have drawn meanwhile, on average: with 7, none of them is drawn by
# chance in one case of a thousand. Little traffic is silent for an hour, and that is no fault.
EXPECTED = 7.0


@dataclass(frozen=True)
class Silence:
    """How long students served without an answer being checked, and how many requests.

    ``since``: the last check, or when the student began to serve; None: nobody knows.
    """

    since: dt.datetime | None
    minutes: float
    served: int
    rate: float

    @property
    def blind(self) -> bool:
        """Whether it is too long for chance."""
        return self.minutes >= BLIND_MINUTES and self.served * self.rate >= EXPECTED

    @property
    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"no served answer was checked against the frontier for {self.minutes:.0f} minutes, in"
            f" which students served {self.served} requests; {self.rate:.0%} are meant to be"
        )


def silence(engine: Engine, adapter: str, rate: float, now: dt.datetime) -> Silence:
    """How long it is quiet about a model while traffic flows.

    Counted from the first request that was served after the last check. Minutes in the future, of a
    clock that was ahead, are none.

    Args:
        engine: the store.
        adapter: the champion's.
        rate: shadow share of the policy in force.
        now: the moment.
    """
    known = [newest_evidence(engine, adapter), serves_since(engine, adapter)]
    since = max((moment for moment in known if moment is not None and moment <= now), default=None)
    served, first = served_since(engine, since or dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
    minutes = (now - first).total_seconds() / 60 if first is not None else 0.0
    return Silence(since, max(0.0, minutes), served, max(rate, EXPLORATION_RATE))
