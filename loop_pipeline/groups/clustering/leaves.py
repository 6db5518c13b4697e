"""Leaves: the finer, reported level inside the groups that are certified.

Not here: certificates; leaves have none.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.clustering.kmeans import best_kmeans, id_of, rounded
from loop_pipeline.groups.embedding.embedder import Floats
from loop_pipeline.groups.registry import Group, Groups

# leaves of a parent, requests of a leaf on average
MOST = 12
ROWS = 200


def fit_leaves(
    groups: Groups,
    frame: pd.DataFrame,
    vectors: Floats,
    parents: NDArray[np.object_],
    previous: Groups | None,
    version: str,
    seed: int,
) -> list[Group]:
    """Leaves of every active parent; a leaf of the last fit keeps its id and follows its parent.

    Args:
        groups: the parents.
        frame: as for ``fit_groups``.
        vectors: of the rows, (n, d).
        parents: group id of each row, None when unassigned.
        previous: groups of the last fit.
        version: of the embedder.
        seed: of the seeding.

    Returns:
        Active leaves, and the ended ones of this and of earlier fits.
    """
    known = _seeds(groups, frame, vectors, previous, version)
    found: list[Group] = []
    for parent in groups.active:
        own = vectors[parents == parent.group_id]
        if len(own) >= 2 * ROWS:
            old = known.get(parent.group_id, [])
            rng = np.random.default_rng([seed, zlib.crc32(parent.group_id.encode())])
            found += _fit(parent, own, old, rng)
    kept = {g.group_id for g in found}
    other = previous is not None and previous.embedder_version != version
    for g in previous.groups if previous else []:
        if g.parent_id is not None and g.group_id not in kept:
            update = {"size": 0, "centroid": [] if other else g.centroid}
            if g.status == "active":
                update |= {"status": "retired", "reason": "no requests are left"}
            found.append(g.model_copy(update=update))
    return found


def _seeds(
    groups: Groups,
    frame: pd.DataFrame,
    vectors: Floats,
    previous: Groups | None,
    version: str,
) -> dict[str, list[tuple[Group, Floats]]]:
    """Leaves of the last fit and where they start from, by the parent they lie nearest to now."""
    seeds: dict[str, list[tuple[Group, Floats]]] = {}
    same = previous is not None and previous.embedder_version == version
    for leaf in previous.leaves if previous else []:
        if same:
            start = np.array(leaf.centroid, dtype=np.float32)
        elif "leaf_id" in frame:
            start = vectors[(frame["leaf_id"] == leaf.group_id).to_numpy()].sum(axis=0)
            start = start / max(float(np.linalg.norm(start)), 1e-6)
        else:
            continue
        near = [g for g in groups.active if g.template_hash == leaf.template_hash]
        if near and start.any():
            cosines = [float(np.array(g.centroid, dtype=np.float32) @ start) for g in near]
            seeds.setdefault(near[int(np.argmax(cosines))].group_id, []).append((leaf, start))
    return seeds


def _fit(
    parent: Group,
    vectors: Floats,
    old: Sequence[tuple[Group, Floats]],
    rng: np.random.Generator,
) -> list[Group]:
    # By size: two cold fits of real requests hardly ever agree, a warm start keeps what there is.
    k = max(min(MOST, len(vectors) // ROWS), len(old))
    start = np.array([c for _, c in old], dtype=np.float32).reshape(-1, vectors.shape[1])
    centroids = np.round(best_kmeans(vectors, start, k, rng, 1 if len(old) == k else 5), 5)
    label, cosine = nearest(vectors, centroids)
    leaves = []
    for i, centroid in enumerate(centroids):
        own, before = 1 - cosine[label == i], old[i][0] if i < len(old) else None
        if not len(own):
            continue
        values = rounded(centroid)
        leaves.append(
            Group(
                group_id=before.group_id if before else id_of(parent.group_id, values),
                name=before.name if before else "",
                renamed=before.renamed if before else False,
                template_hash=parent.template_hash,
                centroid=values,
                radius=round(float(own.max()), 5),
                size=len(own),
                parent_id=parent.group_id,
                reason=before.reason if before else "a part of its group",
            )
        )
    return leaves
