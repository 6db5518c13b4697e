"""What sets a candidate apart from another on the same rows, and its figures on parts of gold.

Not here: what follows from it (``gate.py``).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from loop_pipeline.evaluation.metrics import summarise
from loop_pipeline.evaluation.unspent_gold import FEWEST_QUOTED
from loop_pipeline.stats.paired import paired_bootstrap

# Fewer rows since the training set was frozen say nothing by themselves.
MIN_FRESH = 30


def differences(new: pd.DataFrame, old: pd.DataFrame, clusters: pd.Series) -> dict[str, Any]:
    """Candidate minus another on the rows both answered, with 95% intervals."""
    columns = ["prompt_id", "agrees", "valid", "flagged"]
    pair = new.merge(old[columns], on="prompt_id", suffixes=("", "_old"))
    if pair.empty:
        return {}
    pair["cluster"] = pair["prompt_id"].map(clusters)
    tasks = {str(t): _difference(part, "agrees") for t, part in pair.groupby("task", sort=True)}
    names = {"agrees": "agreement", "valid": "validity", "flagged": "hallucination"}
    return {name: _difference(pair, column) for column, name in names.items()} | {"tasks": tasks}


def _difference(pair: pd.DataFrame, column: str) -> dict[str, Any]:
    new, old = pair[column].astype(float), pair[f"{column}_old"].astype(float)
    return paired_bootstrap(new, old, pair["cluster"])._asdict()


def fresh(
    new: pd.DataFrame, old: pd.DataFrame, gold: pd.DataFrame, since: pd.Timestamp | None
) -> dict[str, Any] | None:
    """The figures on gold rows that are newer than the training set."""
    if since is None:
        return None
    newer = set(gold.loc[pd.to_datetime(gold["ts"], utc=True) > since, "prompt_id"])
    mine = new[new["prompt_id"].isin(newer)]
    about: dict[str, Any] = {"since": since.isoformat(), "n": len(mine)}
    if len(mine) < MIN_FRESH:
        return about
    clusters = gold.set_index("prompt_id")["cluster"]
    theirs = old[old["prompt_id"].isin(newer)]
    about["to_rival"] = differences(mine, theirs, clusters)
    return summarise(mine) | about


def unspent(new: pd.DataFrame, old: pd.DataFrame) -> dict[str, Any] | None:
    """The figures that may be quoted; None if there are too few rows.

    Args:
        new: the candidate's judged answers to gold rows that no gate has decided on.
        old: its rival's.
    """
    if len(new) < FEWEST_QUOTED:
        return None
    known = old["agrees"].astype(float)
    rival = float(known.mean()) if len(known) else None
    return summarise(new) | {"rival_agreement": rival}
