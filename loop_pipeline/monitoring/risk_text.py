"""Where every promise stands, in words and as a table.

Not here: finding it out (``risk_watch.py``).
"""

from __future__ import annotations

import pandas as pd

from loop_pipeline.monitoring.risk import ALARM
from loop_pipeline.monitoring.risk_watch import Look


def lines_of_look(found: Look) -> list[str]:
    """What was done and what is wrong first, then a line a group."""
    lines = [
        f"{group.name} [{group.group_id[:8]}] by {group.adapter}: "
        + (
            f"{group.risk.rows} checked; {group.risk.sentence(group.bound)}"
            if group.risk.rows
            else "no served answer was checked yet, so nothing is known of its promise"
        )
        for group in found.groups
    ]
    nobody = [] if found.groups or found.said else ["no student may serve any group"]
    return [*found.said, *lines, *nobody]


def watched_table(found: Look) -> pd.DataFrame:
    """A row a group and model."""
    return pd.DataFrame(
        [
            {
                "group": group.name,
                "model": group.adapter,
                "checked": group.risk.rows,
                "of the newest": group.risk.checked,
                "disagree": group.risk.disagreeing,
                "promised at most": group.bound,
                "evidence": round(group.risk.evidence, 2),
                "alarm at": ALARM,
            }
            for group in found.groups
        ]
    )
