"""Fits the score of answers on the validation split, and scores frames of answers with it.

What the router does with one answer is in ``answer_score``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.confidence.answer_score import FEATURES, ScoreWeights, unservable

MIN_VALIDATION_ROWS = 50


# Agreeing and disagreeing rows a logistic needs: twenty a feature. With fewer it ranked worse than
# the plain log-probability of the whole answer (three tasks, 13 to 30 disagreeing rows each).
MIN_OF_EACH = 20 * len(FEATURES)


def scores(weights: ScoreWeights, answers: pd.DataFrame) -> NDArray[np.float64]:
    """Score of each answer as the router computes it; NaN where it would escalate anyway.

    Args:
        weights: of the score.
        answers: ``student_answers`` columns; ``contract`` and ``source`` are used if present.
    """
    contracts = answers["contract"] if "contract" in answers else [None] * len(answers)
    texts = answers["source"] if "source" in answers else [""] * len(answers)
    held = [
        unservable(o, f, c if isinstance(c, dict) else None, t) is not None
        for o, f, c, t in zip(
            answers["output"], answers["finish_reason"], contracts, texts, strict=True
        )
    ]
    return np.where(held, np.nan, weights.values({f: answers[f] for f in weights.coef}))


def fit_score(validation_answers: pd.DataFrame) -> ScoreWeights:
    """Logistic P(agrees) over the confidence features of an answer.

    Args:
        validation_answers: ``student_answers`` rows of the validation split, never of others.

    Returns:
        Weights; with too few rows, or of one kind only, the rank by sequence log-probability.
    """
    rows = validation_answers.sort_values("prompt_id")
    x = rows[list(FEATURES)].astype(float)
    finite = np.isfinite(x.to_numpy()).all(axis=1)
    x, y = x.to_numpy()[finite], rows["agrees"].to_numpy(dtype=bool)[finite]
    right, wrong = int(y.sum()), int((~y).sum())
    if len(x) < MIN_VALIDATION_ROWS or min(right, wrong) < MIN_OF_EACH:
        return ScoreWeights(
            kind="logprob_sum",
            mean={"logprob_sum": 0.0},
            scale={"logprob_sum": 1.0},
            coef={"logprob_sum": 1.0},
            intercept=0.0,
            rows=len(x),
            reason=f"ranked by log-probability: {right} agreeing and {wrong} disagreeing "
            f"validation rows, a fit needs {MIN_OF_EACH} of each and {MIN_VALIDATION_ROWS} in all",
        )
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    from sklearn.linear_model import LogisticRegression  # takes seconds: a rollback cannot wait

    model = LogisticRegression(C=1.0).fit((x - mean) / scale, y)

    def rounded(values: Any) -> dict[str, float]:
        return {f: float(f"{v:.9g}") for f, v in zip(FEATURES, values, strict=True)}

    return ScoreWeights(
        kind="logistic",
        mean=rounded(mean),
        scale=rounded(scale),
        coef=rounded(model.coef_[0]),
        intercept=float(f"{model.intercept_[0]:.9g}"),
        rows=len(x),
        reason="fitted on the validation split",
    )
