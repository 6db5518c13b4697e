"""Which reviews look wrong, so that somebody else looks again. None is ever flipped.

Not here: how far a reviewer can be trusted (``reviewers.py``).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from loop_pipeline.labels.reviews.draw import MIN_LABELS

WORST = 0.02


def doubtful(found: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """Verdicts of a single reviewer that the score contradicts most: at most the worst 2%.

    Confident learning (Northcutt et al. 2021, by cleanlab): a verdict is doubtful if the score is
    surer of the opposite than it usually is of answers with that verdict.

    Args:
        found: as ``reviews.reviewers.verdicts`` gives it.
        scores: P(good) by prompt_id, out of fold: a score that has seen the verdict agrees with it.

    Returns:
        prompt_id and reason, most doubtful first; empty below ``MIN_LABELS`` verdicts or if all
        are alike.
    """
    from cleanlab.filter import find_label_issues

    known = scores.dropna().astype(float)
    rows = found[found.index.isin(known.index)]
    good, p = rows["good"].to_numpy(int), known.reindex(rows.index).to_numpy(float)
    names, reasons = [], []
    if len(rows) >= MIN_LABELS and 0 < good.sum() < len(good):
        ranked = find_label_issues(
            good,
            np.column_stack([1 - p, p]),
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        # Where several people have spoken they have decided, whatever the score says.
        single = [i for i in ranked if rows["reviews"].iloc[i] == 1]
        for i in single[: math.ceil(WORST * len(rows))]:
            said = "good" if good[i] else "bad"
            names.append(rows.index[i])
            reasons.append(f"a reviewer says {said}, the score says P(good) = {p[i]:.2f}")
    return pd.DataFrame({"prompt_id": names, "reason": reasons}, dtype=object)
