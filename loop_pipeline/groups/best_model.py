"""Which model is best on each group, or why none can be called so.

The statistics it compares are in ``model_comparison``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from loop_pipeline.costs.unpriced import UNPRICED

COLUMNS = (
    *("group", "best", "quality", "low", "high", "next", "difference", "noise", "more_than_noise"),
    *("usd_per_request", "next_usd_per_request", "note"),
)


def best_models(stats: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    """The model with the highest quality in each group, and whether the next is really worse.

    Only rows that may be compared enter. ``noise`` is the half width of the 95% interval of the
    difference, from both models' own intervals as if they were independent; on the same requests
    they are not, which makes it too wide rather than too narrow.

    Args:
        stats: ``group_model_stats``.
        names: columns group_id and name.

    Returns:
        One row a group; ``note`` says what is missing where there is no answer.
    """
    called = names.set_index("group_id")["name"].to_dict()
    rows = []
    for group, own in stats.groupby("group_id", sort=True):
        name = called.get(group, str(group))
        fair = own[own["comparable"].astype(bool)]
        known = fair[fair["quality"].notna()]
        if len(known) < 2:
            rows.append({"group": name, "note": _missing(fair, known)})
            continue
        order = known.sort_values(
            ["quality", "cost_per_request"], ascending=[False, True], kind="stable"
        )
        rows.append({"group": name} | _compared(order.iloc[0], order.iloc[1]))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS)).astype(object)


def _compared(first: pd.Series, second: pd.Series) -> dict[str, Any]:
    gap = float(first["quality"] - second["quality"])
    below, above = first["quality"] - first["quality_low"], second["quality_high"]
    noise = float(np.hypot(below, above - second["quality"]))
    sure = gap > noise
    return {
        "best": first["model"],
        "quality": first["quality"],
        "low": first["quality_low"],
        "high": first["quality_high"],
        "next": second["model"],
        "difference": gap,
        "noise": noise,
        "more_than_noise": sure,
        "usd_per_request": first["cost_per_request"],
        "next_usd_per_request": second["cost_per_request"],
        "note": "" if sure else f"no difference that is more than noise; {_cheaper(first, second)}",
    }


def _cheaper(first: pd.Series, second: pd.Series) -> str:
    for model in (first, second):
        if pd.isna(model["cost_per_request"]):
            return f"{model['model']} is {UNPRICED}"
    dearer = first["cost_per_request"] > second["cost_per_request"]
    return f"{second['model'] if dearer else first['model']} is cheaper"


def _missing(fair: pd.DataFrame, known: pd.DataFrame) -> str:
    if fair["model"].nunique() < 2:
        return "no requests yet that two models answered and no router chose"
    blind = sorted(set(fair["model"]) - set(known["model"]))
    return f"no reviews tell the quality of {', '.join(blind)}"
