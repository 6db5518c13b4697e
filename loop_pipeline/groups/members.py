"""The group and the leaf of many requests at once, as ``group_members`` stores them.

How one vector finds its group is in ``assignment``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.assignment import Assigner, nearest
from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.groups.registry import UNASSIGNED, Groups


def assign(
    groups: Groups, embeddings: Floats, template_hash: pd.Series
) -> list[tuple[str | None, float]]:
    """Group id (None: unassigned) and cosine distance of each row of ``embeddings`` (n, d)."""
    ids, distances = Assigner(groups.active).many(embeddings, template_hash.tolist())
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
    ids, distances = Assigner(groups.active).many(vectors, frame["template_hash"].tolist())
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
