"""Puts requests into the task groups there are.

Loaded by the router: no clustering here, and neither pandas nor scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.groups.registry import UNASSIGNED, Groups


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
        self, vectors: Floats, template_hash: pd.Series
    ) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """Groups of vectors (n, d), None when unassigned, and the distances, as by one call each.

        Requests of an unknown template have no distance: NaN.
        """
        ids = np.full(len(vectors), None, dtype=object)
        distances = np.full(len(vectors), np.nan)
        templates, lengths = template_hash.to_numpy(), np.linalg.norm(vectors, axis=1)
        for template, (names, centroids, radii, floors) in self._templates.items():
            own = np.flatnonzero(templates == template)
            label, cosine = nearest(vectors[own], centroids)
            cosine /= np.where(lengths[own] > 0, lengths[own], 1)
            distance = np.round((1 - cosine).astype(float), 5)
            distances[own] = distance
            inside = (distance <= radii[label]) & (lengths[own] >= floors[label])
            ids[own[inside]] = np.array(names, dtype=object)[label[inside]]
        return ids, distances


def assign(
    groups: Groups, embeddings: Floats, template_hash: pd.Series
) -> list[tuple[str | None, float]]:
    """Group id (None: unassigned) and cosine distance of each row of ``embeddings`` (n, d)."""
    ids, distances = Assigner(groups.active).many(embeddings, template_hash)
    return list(zip(ids.tolist(), distances.tolist(), strict=True))


def leaves_of(
    groups: Groups, embeddings: Floats, parents: NDArray[np.object_]
) -> NDArray[np.object_]:
    """Leaf of each row whose parent is known: the nearest of the parent's; None if it has none."""
    found = np.full(len(embeddings), None, dtype=object)
    for parent in groups.active:
        leaves = [g for g in groups.leaves if g.parent_id == parent.group_id]
        own = np.flatnonzero(parents == parent.group_id)
        if leaves and len(own):
            centroids = np.array([g.centroid for g in leaves], dtype=np.float32)
            names = np.array([g.group_id for g in leaves], dtype=object)
            found[own] = names[nearest(embeddings[own], centroids)[0]]
    return found


def member_rows(
    groups: Groups, frame: pd.DataFrame, embedder: TextEmbedder, vectors: Floats | None = None
) -> pd.DataFrame:
    """Rows of ``group_members`` for requests with columns prompt_id, text, template_hash.

    Args:
        groups: the groups.
        frame: the requests.
        embedder: the one the groups were fitted with.
        vectors: of the requests as ``project`` gives them, if they are known already.

    Raises:
        ValueError: if the groups live in another embedder's space.
    """
    if groups.embedder_version != embedder.version:
        raise ValueError("these groups were fitted with another embedder; fit them again")
    if vectors is None:
        vectors = embedder.project(frame["text"].tolist())
    ids, distances = Assigner(groups.active).many(vectors, frame["template_hash"])
    xy = embedder.map_xy(unit(vectors))
    return pd.DataFrame(
        {
            "prompt_id": frame["prompt_id"].to_numpy(),
            "group_id": [g or UNASSIGNED for g in ids],
            "leaf_id": leaves_of(groups, vectors, ids),
            # A template without groups has no distance; 2 is the farthest a cosine can be.
            "distance": np.nan_to_num(distances, nan=2.0),
            "x": xy[:, 0].astype(float),
            "y": xy[:, 1].astype(float),
        }
    )


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
