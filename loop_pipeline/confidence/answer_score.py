"""How sure the student is of an answer. Only the ranking matters; no promise rests on the value.

What the router needs for one answer; a frame of answers is fitted and scored in
``answer_score_fit``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from loop_pipeline.answers.contract import UnsupportedContract, check_contract

# A probability is at most 1; so much its logarithm may be above 0 by rounding.
ROUNDING = 1e-4
FEATURES = ("logprob_sum", "logprob_min", "logprob_p10", "logprob_mean", "tokens_out")


class ScoreWeights(BaseModel):
    """Linear score of an answer's confidence features. Only the ranking matters to a promise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    kind: Literal["logistic", "logprob_sum"]
    mean: dict[str, float]
    scale: dict[str, float]
    coef: dict[str, float]
    intercept: float
    rows: int
    reason: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        used = set(self.coef)
        if not used or not used <= set(FEATURES) & set(self.mean) & set(self.scale):
            raise ValueError(f"the score's weights do not fit each other: {sorted(used)}")
        if any(self.scale[name] == 0 for name in used):
            raise ValueError("the score divides by zero")
        return self

    def value(self, features: Mapping[str, float]) -> float:
        """Score (log-odds) of one answer, the same number as ``values`` gives."""
        return round(self._linear({f: float(features[f]) for f in self.coef}), 9)

    def values(self, answers: Mapping[Any, Any]) -> NDArray[np.float64]:
        """Scores of the columns of a frame of student answers, shape (n,)."""
        columns = {f: np.asarray(answers[f], dtype=float) for f in self.coef}
        return np.array([round(float(z), 9) for z in self._linear(columns)], dtype=float)

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
    """Confidence features of an answer, named as the columns of ``student_answers``.

    In plain Python: answers are short, and somebody waits for each.

    Raises:
        ValueError: there are none, or they are no log-probabilities.
    """
    values = [float(value) for value in token_logprobs]
    if not values or not all(map(math.isfinite, values)):
        raise ValueError("log-probabilities are not all numbers")
    # A server that says +5 is surest of all its answers, and not to be believed.
    if (highest := max(values)) > ROUNDING:
        raise ValueError(f"a log-probability is {highest:g}, above 0")
    total = sum(values)
    return {
        "logprob_sum": total,
        "logprob_min": min(values),
        "logprob_p10": lowest_tenth(values),
        "logprob_mean": total / len(values),
        "tokens_out": float(tokens_out or len(values)),
    }


def lowest_tenth(values: Sequence[float]) -> float:
    """The 10% quantile, interpolated, to the last bit as ``numpy.quantile`` has it."""
    ordered = sorted(values)
    place = 0.1 * (len(ordered) - 1)
    below = int(place)
    share = place - below
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def unservable(
    output: str,
    finish_reason: str | None,
    contract: dict[str, Any] | None,
    source: str,
) -> str | None:
    """Why an answer must not be served however sure the student is; None if it may be."""
    if finish_reason not in (None, "stop"):
        return f"the answer did not finish ({finish_reason or 'no reason given'})"
    if not output.strip():
        return "the answer is empty"
    try:
        broken = check_contract(output, contract, source)
    except UnsupportedContract as error:
        return f"its contract cannot be checked: {error}"
    return f"breaks its contract: {broken[0]}" if broken else None
