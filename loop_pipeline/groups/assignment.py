"""Puts embedded requests into the task groups there are.

The router loads this module: no clustering here, and neither pandas nor scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.groups.embedding.embedder import Floats


class HasCentroid(Protocol):
    """What an assignment needs to know of a group."""

    @property
    def group_id(self) -> str: ...  # noqa: D102
    @property
    def template_hash(self) -> str: ...  # noqa: D102
    @property
    def centroid(self) -> list[float]: ...  # noqa: D102
    @property
    def radius(self) -> float: ...  # noqa: D102
    @property
    def floor(self) -> float: ...  # noqa: D102


class Assigner:
    """Finds the group of an embedded request. Immutable, so threads may share it.

    A vector that is shorter than the ``floor`` of its group is unlike anything seen there.
    """

    def __init__(self, groups: Sequence[HasCentroid]) -> None:
        self._templates: dict[
            str, tuple[list[str], Floats, NDArray[np.float64], NDArray[np.float64]]
        ] = {}
        for template in sorted({g.template_hash for g in groups}):
            own = [g for g in groups if g.template_hash == template]
            centroids = np.array([g.centroid for g in own], dtype=np.float32)
            radii, floors = np.array([g.radius for g in own]), np.array([g.floor for g in own])
            self._templates[template] = [g.group_id for g in own], centroids, radii, floors

    def __call__(self, vector: Floats, template_hash: str) -> tuple[str | None, float]:
        """Group of one vector (d,), None when unassigned, and the cosine distance to it."""
        known = self._templates.get(template_hash)
        if known is None:
            return None, float("nan")
        ids, centroids, radii, floors = known
        length = math.sqrt(float(vector @ vector))
        distances = 1 - centroids @ vector / (length or 1.0)
        nearest = int(distances.argmin())
        distance = round(float(distances[nearest]), 5)
        inside = distance <= radii[nearest] and length >= floors[nearest]
        return (ids[nearest] if inside else None), distance

    def many(
        self, vectors: Floats, template_hash: Sequence[str]
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """Groups of vectors (n, d), None when unassigned, and the distances, as by one call each.

        Requests of an unknown template have no distance: NaN.
        """
        ids = np.full(len(vectors), None, dtype=object)
        distances = np.full(len(vectors), np.nan)
        templates, lengths = (
            np.asarray(template_hash, dtype=object),
            np.linalg.norm(vectors, axis=1),
        )
        for template, (names, centroids, radii, floors) in self._templates.items():
            own = np.flatnonzero(templates == template)
            label, cosine = nearest(vectors[own], centroids)
            cosine /= np.where(lengths[own] > 0, lengths[own], 1)
            distance = np.round((1 - cosine).astype(float), 5)
            distances[own] = distance
            inside = (distance <= radii[label]) & (lengths[own] >= floors[label])
            ids[own[inside]] = np.array(names, dtype=object)[label[inside]]
        return ids, distances


BLOCK = 65_536


def nearest(vectors: Floats, centroids: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Index of the most similar centroid of each vector (n, d), and the cosine."""
    labels = np.empty(len(vectors), dtype=np.intp)
    cosines = np.empty(len(vectors), dtype=np.float32)
    for at in range(0, len(vectors), BLOCK):
        similarity = vectors[at : at + BLOCK] @ centroids.T
        best = similarity.argmax(axis=1)
        labels[at : at + BLOCK] = best
        cosines[at : at + BLOCK] = similarity[np.arange(len(best)), best]
    return labels, cosines
