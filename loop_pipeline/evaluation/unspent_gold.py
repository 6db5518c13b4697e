"""Gold rows that no gate has decided on, and which of them stay so for the next report.

Not here: the gate (``gate.py``), and the record of what it used (``store/checkpoints.py``).

A gate takes the best of several students on its gold rows, so that the agreement of the one it
takes is too high on just these rows: by 0.75 points for the best of five equal ones with 1,000.
What is quoted has to come from other rows. So each decision leaves a share of gold out: of the
units that no gate has used a fixed coin keeps a fifth back, the newest ones first and no more than
a report needs. As new gold comes, the older ones that were kept go to the gate.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from loop_pipeline.stats.sampling import coin

KEPT_SHARE = 0.2
# The 95% interval of a share of 95% is then two points wide on either side.
MOST_KEPT = 400
# With less gold than this the gate needs all of it, and what is left would say nothing.
KEPT_FROM = 200
# Fewer rows than this are not quoted.
FEWEST_QUOTED = 40


def kept_back(gold: pd.DataFrame, spent: Collection[str]) -> frozenset[str]:
    """Gold rows that the next decision has to leave alone.

    Args:
        gold: prompt_id, ts and cluster (the unit of the row) of all gold rows.
        spent: prompt ids that a gate has used. A unit of which it has seen one row is spent.
    """
    if len(gold) < KEPT_FROM:
        return frozenset()
    used = set(gold.loc[gold["prompt_id"].isin(set(spent)), "cluster"])
    rows = gold[~gold["cluster"].isin(used)]
    rows = rows[[coin("kept gold", str(unit)) < KEPT_SHARE for unit in rows["cluster"]]]
    units = rows.groupby("cluster")["ts"].agg(["max", "size"])
    units = units.sort_values("max", ascending=False, kind="stable")
    enough = min(MOST_KEPT, round(KEPT_SHARE * len(gold)))
    before = units["size"].cumsum() - units["size"]
    kept = units.index[before < enough]
    return frozenset(rows.loc[rows["cluster"].isin(kept), "prompt_id"])
