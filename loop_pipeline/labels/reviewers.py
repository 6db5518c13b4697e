"""temporary"""

from __future__ import annotations

import pandas as pd


def verdicts(feedback: pd.DataFrame, reviewers: pd.DataFrame | None = None) -> pd.DataFrame:
    """Temporary"""
    reviews = feedback[feedback["kind"] == "review"].sort_values("ts", kind="stable")
    named = reviews["actor"].fillna("") if len(reviews) else reviews["actor"]
    reviews = reviews.assign(actor=named, good=reviews["value"].astype(float) >= 0.5)
    last = reviews.drop_duplicates(["prompt_id", "actor"], keep="last").groupby("prompt_id")["good"]
    share, newest = last.mean(), last.last()
    good = ((share > 0.5) | ((share == 0.5) & newest)).astype(bool)
    return pd.DataFrame(
        {
            "good": good,
            "p_good": good.astype(float),
            "reviews": last.size(),
            "contested": (share > 0) & (share < 1),
        }
    )
