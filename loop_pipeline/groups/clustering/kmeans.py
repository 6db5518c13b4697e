"""Spherical k-means with the same result on every machine: ids come from its centroids."""

from __future__ import annotations

import uuid

import numpy as np
from sklearn.metrics import adjusted_rand_score

from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.embedding.embedder import Floats

NAMESPACE = uuid.UUID("6f1d2c64-2f0e-4f2b-9f63-6a1f3a0d8a57")
SAME_PARTITION = 0.7  # adjusted Rand index at which two half fits tell the same groups
STABILITY_ROWS = 10_000


def id_of(template: str, values: list[float]) -> str:
    """The id of a group that is first seen with this centroid."""
    return str(uuid.uuid5(NAMESPACE, f"{template} {values}"))


def rounded(centroid: Floats) -> list[float]:
    """A centroid as it is stored: five digits, the same on every machine."""
    return [float(f"{x:.5f}") for x in centroid]


def plus_plus(vectors: Floats, centroids: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Add seeds far from the present ones until there are ``k`` (k-means++)."""
    if not len(centroids):
        centroids = vectors[rng.integers(len(vectors))][None]
    best = nearest(vectors, centroids)[1]
    while len(centroids) < k:
        gap = np.clip(1 - best, 0, None).astype(float)
        if gap.sum() < 1e-6:  # fewer distinct requests than groups asked for
            break
        seed = vectors[rng.choice(len(vectors), p=gap / gap.sum())]
        centroids = np.vstack([centroids, seed])
        best = np.maximum(best, vectors @ seed)
    return centroids


def kmeans(vectors: Floats, centroids: Floats, steps: int = 50) -> Floats:
    """Lloyd's algorithm on the sphere; an emptied centroid stays where it was."""
    labels = np.full(len(vectors), -1)
    for _ in range(steps):
        last, labels = labels, nearest(vectors, centroids)[0]
        if np.array_equal(last, labels):
            break
        sums = np.stack([vectors[labels == i].sum(axis=0) for i in range(len(centroids))])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), centroids)
    return centroids


def best_kmeans(
    vectors: Floats, centroids: Floats, k: int, rng: np.random.Generator, starts: int = 5
) -> Floats:
    """The best of several fits by the mean cosine; given centroids are in all of them."""
    fits = [kmeans(vectors, plus_plus(vectors, centroids, k, rng)) for _ in range(starts)]
    return max(fits, key=lambda fit: float(nearest(vectors, fit)[1].mean()))


def stable_k(vectors: Floats, most: int, rng: np.random.Generator) -> int:
    """The finest partition, up to ``most`` groups, that two halves of the rows agree on."""
    rows = vectors[rng.permutation(len(vectors))[:STABILITY_ROWS]]
    halves = rows[::2], rows[1::2]
    empty = np.empty((0, rows.shape[1]), dtype=np.float32)
    for k in range(min(most, len(rows) // 4), 1, -1):
        # One start each finds halves that differ by where they started.
        fits = [best_kmeans(half, empty, k, rng) for half in halves]
        if adjusted_rand_score(*(nearest(rows, fit)[0] for fit in fits)) >= SAME_PARTITION:
            return k
    return 1
