"""How likely the cheap model's answer is as good as the frontier's, read from the request alone.

Only the ranking matters: no promise rests on the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from loop_pipeline.groups.ngrams import MAX_CHARS

MIN_ROWS = 100
# Rows of each kind a fit needs; with fewer the rank by length is the safer one.
MIN_OF_EACH = 20
# Ridge penalties, with every shape feature at unit variance and vectors at unit length.
SHAPE_PENALTY, VECTOR_PENALTY = 300.0, 30.0

_WORD = re.compile(r"\w+")
_LIST_ITEM = re.compile(r"\n\s*(?:[A-Za-z0-9]{1,2}[.)]|[-*])\s+")
_NEGATION = re.compile(r"\b(?:not|except|never|least|incorrect|false)\b", re.IGNORECASE)
_FORMULA = re.compile(r"[\\$^_{}=+*/<>()]")
_DIGIT = re.compile(r"\d")
_CAPITAL = re.compile(r"[A-Z]")
_NUMBER = re.compile(r"\b\d+\b")


def shape(text: str) -> dict[str, float]:
    """What a request looks like: lengths, numbers, formulae, form of the question."""
    text = text[:MAX_CHARS]
    size = max(len(text), 1)
    question, *items = _LIST_ITEM.split(text)
    items = [len(i) for i in items] or [0]
    words = _WORD.findall(text.lower())
    digits = len(_DIGIT.findall(text))
    formula = len(_FORMULA.findall(text))
    return {
        "length": math.log1p(len(text)),
        "question_length": math.log1p(len(question)),
        "longest_item": math.log1p(max(items)),
        "shortest_item": math.log1p(min(items)),
        "items": math.log1p(len(items)),
        "digits": math.log1p(digits),
        "digit_share": digits / size,
        "formula": math.log1p(formula),
        "formula_share": formula / size,
        "capital_share": len(_CAPITAL.findall(text)) / size,
        "number_share": len(_NUMBER.findall(text)) / max(len(words), 1),
        "word_length": sum(map(len, words)) / max(len(words), 1),
        "distinct_words": len(set(words)) / max(len(words), 1),
        "lines": math.log1p(text.count("\n")),
        "sentences": math.log1p(question.count(". ")),
        "commas": math.log1p(text.count(",")),
        "negation": float(_NEGATION.search(question) is not None),
        "which": float("which of the following" in question.lower()),
        "asks": float(question.rstrip().endswith("?")),
    }


class RequestScore(BaseModel):
    """Linear score of a request's shape and vector; higher: the cheap model will do."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["ridge", "length", "constant"]
    coef: dict[str, float]
    vector_coef: tuple[float, ...]
    intercept: float
    rows: int
    reason: str

    def value(self, text: str, vector: NDArray[np.float32]) -> float:
        """Score of one request, the same number as ``values`` gives."""
        total = self.intercept
        if self.coef:
            known = shape(text)
            # Term by term in one order: a sum that rounds otherwise could cross a threshold.
            for name in sorted(self.coef):
                total += self.coef[name] * known[name]
        if self.vector_coef:
            total += float(np.asarray(vector, dtype=np.float64) @ np.array(self.vector_coef))
        return round(total, 9)

    def values(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of requests, shape (n,); vectors of shape (n, d) as the fit saw them."""
        return np.array(
            [self.value(t, v) for t, v in zip(texts, vectors, strict=True)], dtype=float
        )


def _nine_digits(value: float) -> float:
    return float(f"{value:.9g}")


def fit_request_score(
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    good: NDArray[np.bool_] | NDArray[np.float64],
    *,
    seed: int = 0,  # noqa: ARG001
) -> RequestScore:
    """Ridge regression of ``good`` on the shape and the vector of a request.

    Args:
        texts: requests with a known outcome, as ``groups.embedding.request_text`` gives them.
        vectors: of them, shape (n, d), from ``groups.embedding.Embedder``.
        good: whether the cheap model's answer was as good as the frontier's, shape (n,); or how
            much better it was (quality less quality), which ranks better where it is known.
        seed: unused by the closed form; kept so that a fit states all it depends on.

    Returns:
        The score; with too few rows shorter requests come first, with one outcome all are equal.
    """
    target = np.asarray(good, dtype=float)
    n, kinds = len(target), np.unique(target)
    if len(texts) != n or len(vectors) != n:
        raise ValueError(f"{len(texts)} texts, {len(vectors)} vectors and {n} outcomes: not alike")
    fewest = int(min(np.sum(target == target.max()), np.sum(target < target.max()))) if n else 0
    if n < MIN_ROWS or fewest < MIN_OF_EACH:
        reason = (
            f"{n} requests with a known outcome, {fewest} of the rarer kind; "
            f"a fit needs {MIN_ROWS} and {MIN_OF_EACH}"
        )
        if n and len(kinds) == 1:
            return RequestScore(
                kind="constant",
                coef={},
                vector_coef=(),
                intercept=0.0,
                rows=n,
                reason=f"all equal: {reason}",
            )
        return RequestScore(
            kind="length",
            coef={"length": -1.0},
            vector_coef=(),
            intercept=0.0,
            rows=n,
            reason=f"shorter requests first: {reason}",
        )
    known = [shape(t) for t in texts]
    names = sorted(known[0])
    plain = np.array([[row[name] for name in names] for row in known])
    mean, scale = plain.mean(axis=0), plain.std(axis=0)
    scale[scale < 1e-9] = 1.0  # constant, but for rounding
    x = np.hstack(
        [
            (plain - mean) / scale / math.sqrt(SHAPE_PENALTY),
            (vectors - vectors.mean(axis=0)) / math.sqrt(VECTOR_PENALTY),
        ]
    ).astype(float)
    weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (target - target.mean()))
    shape_coef = weight[: len(names)] / math.sqrt(SHAPE_PENALTY) / scale
    vector_coef = weight[len(names) :] / math.sqrt(VECTOR_PENALTY)
    offset = shape_coef @ mean + vector_coef @ vectors.mean(axis=0).astype(float)
    return RequestScore(
        kind="ridge",
        coef={name: _nine_digits(c) for name, c in zip(names, shape_coef, strict=True)},
        vector_coef=tuple(_nine_digits(c) for c in vector_coef),
        intercept=_nine_digits(target.mean() - offset),
        rows=n,
        reason="fitted on requests with a known outcome",
    )
