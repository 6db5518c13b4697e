"""How sure the student is of an answer. Only the ranking matters; no promise rests on the value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from loop_pipeline.answers.contract import UnsupportedContract, check_contract

FEATURES = ("logprob_sum", "logprob_min", "logprob_p10", "logprob_mean", "tokens_out")
MIN_VALIDATION_ROWS = 50
# Agreeing and disagreeing rows a logistic needs: twenty a feature. With fewer it ranked worse than
# the plain log-probability of the whole answer (three tasks, 13 to 30 disagreeing rows each).
MIN_OF_EACH = 20 * len(FEATURES)


class ScoreWeights(BaseModel):
    """Linear score of an answer's confidence features. Only the ranking matters to a promise."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["logistic", "logprob_sum"]
    mean: dict[str, float]
    scale: dict[str, float]
    coef: dict[str, float]
    intercept: float
    rows: int
    reason: str

    def value(self, features: Mapping[str, float]) -> float:
        """Score (log-odds) of one answer, the same number as ``values`` gives."""
        return round(self._linear({f: float(features[f]) for f in self.coef}), 9)

    def values(self, answers: pd.DataFrame) -> NDArray[np.float64]:
        """Scores of a frame of student answers, shape (n,)."""
        columns = {f: answers[f].astype(float) for f in self.coef}
        return np.array([round(z, 9) for z in self._linear(columns)], dtype=float)

    def _linear(self, features: Mapping[str, Any]) -> Any:
        # Term by term in one order: a sum that rounds otherwise could cross a threshold.
        terms = [
            (features[f] - self.mean[f]) / self.scale[f] * self.coef[f] for f in sorted(self.coef)
        ]
        total = terms[0] + self.intercept
        for term in terms[1:]:
            total = total + term
        return total


def logprob_features(
    token_logprobs: Sequence[float], tokens_out: int | None = None
) -> dict[str, float]:
    """Confidence features of an answer, named as the columns of ``student_answers``."""
    values = np.asarray(token_logprobs, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError("log-probabilities are not all numbers")
    return {
        "logprob_sum": float(values.sum()),
        "logprob_min": float(values.min()),
        "logprob_p10": float(np.quantile(values, 0.1)),
        "logprob_mean": float(values.mean()),
        "tokens_out": float(tokens_out or len(values)),
    }


def unservable(
    output: str,
    finish_reason: str | None,
    contract: dict[str, Any] | None,
    request_text: str,
) -> str | None:
    """Why an answer must not be served however sure the student is; None if it may be."""
    if not output.strip():
        return "the answer is empty"
    if finish_reason not in (None, "stop"):
        return f"the answer did not finish ({finish_reason})"
    try:
        broken = check_contract(output, contract, request_text)
    except UnsupportedContract as error:
        return f"its contract cannot be checked: {error}"
    return f"breaks its contract: {broken[0]}" if broken else None


def scores(weights: ScoreWeights, answers: pd.DataFrame) -> NDArray[np.float64]:
    """Score of each answer as the router computes it; NaN where it would escalate anyway.

    Args:
        weights: of the score.
        answers: ``student_answers`` columns; ``contract`` and ``request_text`` are used if present.
    """
    contracts = answers["contract"] if "contract" in answers else [None] * len(answers)
    texts = answers["request_text"] if "request_text" in answers else [""] * len(answers)
    held = [
        unservable(o, f, c if isinstance(c, dict) else None, t) is not None
        for o, f, c, t in zip(
            answers["output"], answers["finish_reason"], contracts, texts, strict=True
        )
    ]
    return np.where(held, np.nan, weights.values(answers))


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
