"""How likely a cheap model's answer will do, read from the request alone.

Not here: scores of an answer (``answer_score.py``).

Only the ranking matters: no promise rests on the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from scipy.spatial.distance import cdist

from loop_pipeline.traces.messages import MAX_CHARS

MIN_ROWS = 100
# Rows whose outcome is not the commonest; with fewer the rank by length is the safer one.
MIN_UNLIKE = 20
# Chosen on one half of RouteLLM's MMLU rows with 1,500 labels a draw; `benchmarks.routing` reports
# the other half apart. More kinds or coordinates fitted the labels, not the requests.
KINDS = 64
COORDINATES = 32
SWEEPS = 20
SHAPE_WIDTH = 0.7
VECTOR_WEIGHT = 0.8
PENALTY = 1 / 0.06

_LIST_ITEM = re.compile(r"\n\s*(?:[A-Za-z0-9]{1,2}[.)]|[-*])\s+")
_NEGATIONS = frozenset((b"not", b"except", b"never", b"least", b"incorrect", b"false"))
_DIGITS = b"0123456789"
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FORMULA = b"\\$^_{}=+*/<>()"
# Bytes count several times faster than regular expressions; whatever is no letter parts words.
_SPACED = bytes(c if c >= 128 or chr(c).isalnum() or c == 95 else 32 for c in range(256))


def _count(raw: bytes, wanted: bytes) -> int:
    return len(raw) - len(raw.translate(None, wanted))


def shape(text: str) -> dict[str, float]:
    """What a request looks like: lengths, numbers, formulae, form of the question."""
    text = text[:MAX_CHARS]
    size = max(len(text), 1)
    question, *listed = _LIST_ITEM.split(text)
    items = [len(i) for i in listed] or [0]
    raw = text.encode("utf-8", "surrogatepass")
    words = raw.lower().translate(_SPACED).split()
    asked = question.lower().encode("utf-8", "surrogatepass")
    digits, formula = _count(raw, _DIGITS), _count(raw, _FORMULA)
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
        "capital_share": _count(raw, _CAPITALS) / size,
        "number_share": sum(map(bytes.isdigit, words)) / max(len(words), 1),
        "word_length": sum(map(len, words)) / max(len(words), 1),
        "distinct_words": len(set(words)) / max(len(words), 1),
        "lines": math.log1p(text.count("\n")),
        "sentences": math.log1p(question.count(". ")),
        "commas": math.log1p(text.count(",")),
        "negation": float(not _NEGATIONS.isdisjoint(asked.translate(_SPACED).split())),
        "which": float(b"which of the following" in asked),
        "asks": float(question.rstrip().endswith("?")),
    }


Floats = NDArray[np.float64]


def _digits(values: Floats, digits: int = 9) -> tuple[float, ...]:
    return tuple(float(f"{value:.{digits}g}") for value in values)


class RequestScore(BaseModel):
    """Soft membership in kinds of request, each with a weight; higher: the cheap model will do.

    ``kinds`` are points in one space: the shape, standardised and weighed by ``scale``, beside the
    direction of the vector's first coordinates, the ones that tell topics apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    method: Literal["kinds", "length", "constant"]
    rows: int
    reason: str
    mean: dict[str, float] = {}
    scale: dict[str, float] = {}
    origin: tuple[float, ...] = ()
    kinds: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, ...] = ()
    intercept: float = 0.0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        width = len(self.mean) + len(self.origin)
        if len(self.weights) != len(self.kinds) or any(len(k) != width for k in self.kinds):
            raise ValueError("the score's kinds, weights and coordinates do not fit each other")
        if self.mean.keys() != self.scale.keys() or not self.mean.keys() <= shape("").keys():
            raise ValueError(f"the score knows no such shape: {sorted({*self.mean, *self.scale})}")
        return self

    def value(self, text: str, vector: NDArray[np.float32]) -> float:
        """Score of one request, the same number as ``values`` gives.

        Args:
            text: the request, as ``traces.messages.request_text`` gives it.
            vector: of it, shape (d,), from the embedder that the score was fitted with.
        """
        if self.method == "constant":
            return self.intercept
        if self.method == "length":
            return -float(len(text))
        apart = self._points - self._point(text, vector)
        near = np.exp(-np.einsum("ij,ij->i", apart, apart))
        return round(self.intercept + float(near @ self._weights), 9)

    def values(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> Floats:
        """Scores of requests, shape (n,); one by one, so that one and many never differ."""
        return np.array(
            [self.value(t, v) for t, v in zip(texts, vectors, strict=True)], dtype=float
        )

    def _point(self, text: str, vector: NDArray[np.float32]) -> Floats:
        known = shape(text)
        form = [(known[name] - self.mean[name]) * self.scale[name] for name in sorted(self.mean)]
        return np.concatenate([form, _direction(vector, self._origin)])

    @cached_property
    def _points(self) -> Floats:
        return np.array(self.kinds)

    @cached_property
    def _weights(self) -> Floats:
        return np.array(self.weights)

    @cached_property
    def _origin(self) -> Floats:
        return np.array(self.origin)


def _direction(vector: NDArray[np.float32], origin: Floats) -> Floats:
    """Where a vector's first coordinates point, seen from the middle of all requests."""
    away = np.asarray(vector[: len(origin)], dtype=np.float64) - origin
    size = math.sqrt(float(away @ away))
    return away * (VECTOR_WEIGHT / size if size else 0.0)


def _centres(points: Floats, count: int, seed: int) -> Floats:
    """Lloyd's k-means from seeded rows, shape (count, d).

    Written out, so that any number of threads sums in one order.
    """
    centres = points[np.random.default_rng(seed).permutation(len(points))[:count]]
    for _ in range(SWEEPS):
        nearest = cdist(points, centres, "sqeuclidean").argmin(axis=1)
        size = np.bincount(nearest, minlength=count)
        total = np.stack([np.bincount(nearest, c, count) for c in points.T], axis=1)
        centres = np.where(size[:, None] > 0, total / np.maximum(size, 1)[:, None], centres)
    return centres


def fit_request_score(
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    good: NDArray[np.bool_] | Floats,
    *,
    seed: int = 0,
) -> RequestScore:
    """Ridge regression of ``good`` on how near a request is to 64 kinds of request.

    Method: Nystroem approximation of Gaussian process regression with a Gaussian kernel over shape
    and topic, landmarks by k-means (Zhang et al. 2008).

    Args:
        texts: requests with a known outcome, as ``traces.messages.request_text`` gives them.
        vectors: of them, shape (n, d), from ``groups.embedding.Embedder``, whose first coordinates
            are the strongest.
        good: whether the cheap model's answer was as good as the frontier's, shape (n,); or how
            much better it was (quality less quality), which ranks better where it is known.
        seed: of the k-means.

    Returns:
        The score; with too few rows shorter requests come first, with one outcome all are equal.

    Raises:
        ValueError: if texts, vectors and outcomes are not of the same number, or not all numbers.
    """
    target, n = np.asarray(good, dtype=float), len(good)
    if not len(texts) == len(vectors) == n:
        raise ValueError(f"{len(texts)} texts, {len(vectors)} vectors and {n} outcomes: not alike")
    if not (np.isfinite(target).all() and np.isfinite(vectors).all()):
        raise ValueError("vectors and outcomes must all be numbers")
    unlike = n - int(np.unique(target, return_counts=True)[1].max(initial=0))
    if n < MIN_ROWS or unlike < MIN_UNLIKE:
        same = n > 0 and unlike == 0
        return RequestScore(
            method="constant" if same else "length",
            rows=n,
            reason=f"{'all equal' if same else 'shorter requests first'}: {n} requests with a "
            f"known outcome, {unlike} unlike most; a fit needs {MIN_ROWS} and {MIN_UNLIKE} such",
        )
    known = [shape(t) for t in texts]
    plain = {name: np.array([row[name] for row in known]) for name in sorted(known[0])}
    width = math.sqrt(2 * SHAPE_WIDTH * len(plain))
    frame = RequestScore(
        method="kinds",
        rows=n,
        reason="fitted on requests with a known outcome",
        mean=dict(zip(plain, _digits(np.array([c.mean() for c in plain.values()])), strict=True)),
        # A feature that never varies is left out by its scale.
        scale={
            k: _digits(np.array([1 / c.std() / width]))[0] if np.ptp(c) > 1e-9 else 0.0
            for k, c in plain.items()
        },
        origin=_digits(vectors[:, :COORDINATES].mean(axis=0, dtype=np.float64)),
    )
    points = np.array([frame._point(t, v) for t, v in zip(texts, vectors, strict=True)])
    kinds = [_digits(c, 4) for c in _centres(points, min(KINDS, n), seed)]
    near = np.exp(-cdist(points, np.array(kinds), "sqeuclidean"))
    middle = near.mean(axis=0)
    prior = np.exp(-cdist(np.array(kinds), np.array(kinds), "sqeuclidean"))
    # The process's own prior, K of the kinds, is the ridge; a little of the unit matrix, because
    # two kinds may lie in one place.
    ridge = PENALTY * (prior + 1e-6 * np.eye(len(kinds)))
    weights = np.linalg.solve(
        (near - middle).T @ (near - middle) + ridge, (near - middle).T @ (target - target.mean())
    )
    return frame.model_copy(
        update={
            "kinds": tuple(kinds),
            "weights": _digits(weights),
            "intercept": _digits(np.array([target.mean() - middle @ weights]))[0],
        }
    )
