"""All task groups of the traffic: spherical k-means inside each prompt template.

Not here: the group of one request (``groups/assignment.py``).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.assignment import Assigner
from loop_pipeline.groups.clustering.leaves import fit_leaves
from loop_pipeline.groups.clustering.naming import describe
from loop_pipeline.groups.clustering.refit import fit_template
from loop_pipeline.groups.clustering.refit_inputs import Requests, Room
from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.groups.members import leaves_of
from loop_pipeline.groups.registry import Group, Groups


def fit_groups(
    frame: pd.DataFrame,
    embedder: TextEmbedder,
    *,
    previous: Groups | None,
    calibration_rows: int,
    min_rows_per_group: int = 800,
    max_groups: int = 12,
    seed: int = 0,
    vectors: Floats | None = None,
) -> Groups:
    """Group the requests; the same rows give the same ids, and a refit keeps the old ones.

    Groups never cross a template. At the first fit a template is split only as far as each part
    can expect ``min_rows_per_group`` calibration rows and two halves of its rows agree on the
    split; later fits start from the groups there are, and change their number only by the rules
    of ``lifecycle``. Fit on requests of the train split: groups chosen on calibration rows would
    see them twice.

    Args:
        frame: columns prompt_id, text, template_hash, task; group_id and leaf_id (the old
            assignment) let ids survive a new embedder; new (not in the fit before; absent: all
            are) and quality (P(good) of the answer, NaN where unknown) decide on changes.
        embedder: of the texts.
        previous: groups of the last fit, whose ids and names are kept.
        calibration_rows: held-out rows there will be over all templates.
        min_rows_per_group: calibration rows a group should expect.
        max_groups: templates beyond this number, smallest first, get no group: frontier only.
        seed: of the seeding and of the stability check.
        vectors: of the texts as ``project`` gives them, if they are known already.

    Raises:
        ValueError: if the frame is empty, or the embedder changed and group_id is absent.
    """
    if frame.empty:
        raise ValueError("there are no requests to group; import traces first")
    if vectors is None:
        vectors = embedder.project(frame["text"].tolist())
    order = frame["prompt_id"].argsort(kind="stable").to_numpy()
    order = order[np.linalg.norm(vectors[order], axis=1) > 0]
    frame, vectors = frame.iloc[order].reset_index(drop=True), vectors[order]
    version = embedder.version
    groups: list[Group] = []
    # Groups that end make room, those of templates that are gone included.
    room = max_groups - (len(previous.active) if previous else 0)
    window = int(frame["new"].sum()) if "new" in frame else len(frame)
    for template, own in _templates(frame, max_groups):
        share = len(own) / len(frame)
        affordable = int(calibration_rows * share) // min_rows_per_group
        before = {g.group_id for g in previous.active} if previous else set()
        fitted = fit_template(
            template,
            _requests(frame.iloc[own], vectors[own], embedder.floor),
            previous,
            version,
            Room(calibration_rows / len(frame), min_rows_per_group, room),
            most=min(affordable, round(max_groups * share)),
            window=window,
            rng=np.random.default_rng([seed, zlib.crc32(template.encode())]),
        )
        room -= sum(g.status == "active" and g.group_id not in before for g in fitted)
        room += sum(g.status != "active" and g.group_id in before for g in fitted)
        groups += fitted
    groups += _ended(groups, previous, version)
    result = Groups(embedder_version=version, groups=groups)
    ids, distances = Assigner(result.active).many(vectors, frame["template_hash"].tolist())
    result.groups += fit_leaves(result, frame, unit(vectors), ids, previous, version, seed)
    result.groups.sort(key=lambda g: g.group_id)
    leaves = leaves_of(result, vectors, ids)
    _name(result.active, frame, ids, distances)
    _name(result.leaves, frame, leaves, distances)
    return result


def _templates(frame: pd.DataFrame, most: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """The largest templates and their rows, largest first."""
    sizes = frame["template_hash"].value_counts().sort_index().sort_values(kind="stable")
    for template in sizes[::-1].head(most).index:
        yield str(template), np.flatnonzero((frame["template_hash"] == template).to_numpy())


def _requests(frame: pd.DataFrame, vectors: Floats, floor: float) -> Requests:
    n = len(frame)
    new = frame["new"].to_numpy(bool) if "new" in frame else np.ones(n, dtype=bool)
    quality = frame["quality"].to_numpy(float) if "quality" in frame else np.full(n, np.nan)
    owner = frame["group_id"].to_numpy(object) if "group_id" in frame else None
    known = np.linalg.norm(vectors, axis=1)
    return Requests(unit(vectors), known, floor, frame["text"], new, quality, owner)


def _ended(groups: Sequence[Group], previous: Groups | None, version: str) -> list[Group]:
    """Parents of earlier fits that are no more: their rows stay, so that their ids can be read."""
    kept = {g.group_id for g in groups}
    ended = []
    for g in previous.groups if previous else []:
        if g.group_id in kept or g.parent_id is not None or g.status == "candidate":
            continue
        update: dict[str, Any] = {"size": 0}
        if g.status == "active":
            update |= {"status": "retired", "reason": "no requests of its template are left"}
        if previous and previous.embedder_version != version:
            update["centroid"] = []  # of another space
        ended.append(g.model_copy(update=update))
    return ended


def _name(
    groups: Sequence[Group],
    frame: pd.DataFrame,
    ids: NDArray[np.object_],
    distances: NDArray[np.float64],
) -> None:
    """Terms, exemplars and, unless a person chose it, the name of each group."""
    described = describe(frame, list(ids), list(distances)) if groups else {}
    for group in groups:
        found = described.get(group.group_id, {})
        group.task = found.get("task")
        group.terms, group.exemplars = found.get("terms", []), found.get("exemplars", [])
        if not group.renamed:
            group.name = found.get("name") or group.name or f"group {group.group_id[:8]}"
