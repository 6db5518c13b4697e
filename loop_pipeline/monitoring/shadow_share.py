"""Which groups are shadowed more than the policy says, and why.

Not here: the coin (``gateway``), and the share while a rollout runs, which is the policy's.

At 2% a group of a thousand requests a day gives twenty answers to judge. So a group is looked at
more closely while little is known of it, while there is a warning, and while it is held: then its
certificate can be made again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from loop_pipeline.monitoring.risk import CALM_ROWS, Risk

# Share of a group's requests that everybody answers.
CLOSE = 0.1


def close_look(
    risks: Mapping[str, Sequence[tuple[Risk, Sequence[dt.datetime]]]],
    held: Sequence[str],
    warned_at: dt.datetime | None,
) -> dict[str, tuple[float, str]]:
    """The share of each group that is looked at more closely, and why.

    Args:
        risks: of each group that a student may serve: where its streams stand, and when their
            newest rows were looked at.
        held: groups that the frontier answers for now.
        warned_at: when the traffic was last seen to change; None: it looks as before.
    """
    found: dict[str, tuple[float, str]] = {}
    for group_id, streams in risks.items():
        fewest = min((risk.rows for risk, _ in streams), default=0)
        if fewest < CALM_ROWS:
            known = f"{fewest} of the {CALM_ROWS} checked answers of a new student or certificate"
            found[group_id] = (CLOSE, known)
        elif not all(risk.calm for risk, _ in streams):
            found[group_id] = (CLOSE, f"its newest {CALM_ROWS} answers do not all look well")
        elif warned_at is not None and not all(
            sum(at > warned_at for at in times) >= CALM_ROWS for _, times in streams
        ):
            found[group_id] = (CLOSE, "the traffic looks different")
    return found | dict.fromkeys(held, (CLOSE, "it is held"))
