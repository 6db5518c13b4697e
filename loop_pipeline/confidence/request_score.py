"""How likely a cheap model's answer will do, read from the request alone.

Not here: scores of an answer (``answer_score.py``).

Only the ranking matters: no promise rests on the value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from scipy.spatial.distance import cdist

from loop_pipeline.confidence.request_shape import shape

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
# A request is unlike all that the score was fitted on if no kind is so near: less than half as near
# as all but a hundredth of those are to theirs, and never more than this. Of RouteLLM's MMLU 0.2%
# are, all of CLINC150, and of MMLU by a score fitted on CLINC150 two thirds.
REACH = 0.1
UNLIKE = ", unlike all requests that the score knows: ranked by its length"
FAR = 1e5  # characters that one unit of the score stands for, where length decides

Floats = NDArray[np.float64]


def _digits(values: Floats, digits: int = 9) -> tuple[float, ...]:
    return tuple(float(f"{value:.{digits}g}") for value in values)


class Scored(NamedTuple):
    """The score of one request, and a note where it is no more than its length."""

    value: float
    note: str = ""


class RequestScore(BaseModel):
    """Soft membership in kinds of request, each with a weight; higher: the cheap model will do.

    ``kinds`` are points in one space: the shape, standardised and weighed by ``scale``, beside the
    direction of the vector's first coordinates, the ones that tell topics apart. A request that is
    near none of them comes after all that are, shorter ones first: the score knows nothing of it.
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
    reach: float = 0.0
    """How near the nearest kind has to be, 0 to 1; 0 in scores of before: all are near enough."""

    @model_serializer(mode="wrap")
    def _as_before(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A document of an earlier version keeps its bytes, and with them its sha256.
        plain: dict[str, Any] = rest(self)
        return plain if self.reach else {k: v for k, v in plain.items() if k != "reach"}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        width = len(self.mean) + len(self.origin)
        if len(self.weights) != len(self.kinds) or any(len(k) != width for k in self.kinds):
            raise ValueError("the score's kinds, weights and coordinates do not fit each other")
        if self.mean.keys() != self.scale.keys() or not self.mean.keys() <= shape("").keys():
            raise ValueError(f"the score knows no such shape: {sorted({*self.mean, *self.scale})}")
        return self

    def scored(self, text: str, vector: NDArray[np.float32]) -> Scored:
        """Score of one request, with a note if it is by length because nothing like it is known.

        Args:
            text: the request, as ``traces.messages.request_text`` gives it.
            vector: of it, shape (d,), from the embedder that the score was fitted with.
        """
        if self.method == "constant":
            return Scored(self.intercept)
        if self.method == "length":
            return Scored(-float(len(text)))
        apart = self._points - self._point(text, vector)
        near = np.exp(-np.einsum("ij,ij->i", apart, apart))
        if near.max() < self.reach:
            return Scored(round(self._least - len(text) / FAR, 9), UNLIKE)
        return Scored(round(self.intercept + float(near @ self._weights), 9))

    def value(self, text: str, vector: NDArray[np.float32]) -> float:
        """Score of one request alone, the same number as ``values`` gives."""
        return self.scored(text, vector).value

    def unlike(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> float:
        """Share of the requests that are unlike all that the score was fitted on."""
        notes = [self.scored(t, v).note for t, v in zip(texts, vectors, strict=True)]
        return notes.count(UNLIKE) / max(len(notes), 1)

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
    def _least(self) -> float:
        """Under every score by kinds: at worst a request is one with all that speak against it."""
        return self.intercept + float(np.minimum(self._weights, 0).sum()) - 1

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
    reach = min(REACH, float(np.quantile(near.max(axis=1), 0.01)) / 2)
    return frame.model_copy(
        update={
            "reach": _digits(np.array([reach]))[0],
            "kinds": tuple(kinds),
            "weights": _digits(weights),
            "intercept": _digits(np.array([target.mean() - middle @ weights]))[0],
        }
    )
