"""Task groups with stable ids: spherical k-means inside each prompt template, warm-started."""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from sklearn.metrics import adjusted_rand_score

from loop_pipeline.groups.embedding import Embedder, Floats
from loop_pipeline.groups.naming import describe

NAMESPACE = uuid.UUID("6f1d2c64-2f0e-4f2b-9f63-6a1f3a0d8a57")
UNASSIGNED = "unassigned"
MEMBER_SHARE = 0.99  # of a group's members lie within its radius
SAME_PARTITION = 0.7  # adjusted Rand index at which two half fits tell the same groups
STABILITY_ROWS = 4_000


class Group(BaseModel):
    """One certification unit: requests of one template that lie near one centroid."""

    group_id: str
    name: str = ""
    template_hash: str
    task: str | None = None
    terms: list[str] = []
    exemplars: list[str] = []
    centroid: list[float]
    radius: float
    size: int
    status: str = "active"


class Groups(BaseModel):
    """All groups of one fit and the embedder their centroids live in."""

    embedder_version: str
    groups: list[Group]

    @property
    def version(self) -> str:
        """sha256 of everything that decides an assignment."""
        deciding = [(g.group_id, g.template_hash, g.centroid, g.radius) for g in self.active]
        return hashlib.sha256(json.dumps([self.embedder_version, deciding]).encode()).hexdigest()

    @property
    def active(self) -> list[Group]:
        """Groups that still take requests."""
        return [g for g in self.groups if g.status == "active"]

    def to_rows(self) -> pd.DataFrame:
        """Rows of ``task_groups``."""
        rows = [g.model_dump() | {"version": self.embedder_version} for g in self.groups]
        return pd.DataFrame(rows, columns=[*Group.model_fields, "version"])

    @classmethod
    def from_rows(cls, rows: pd.DataFrame) -> Groups | None:
        """Read ``task_groups`` back; None if the table is empty.

        Raises:
            ValueError: if the rows come from several embedders.
        """
        if rows.empty:
            return None
        versions = sorted(set(rows["version"]))
        if len(versions) > 1:
            raise ValueError(f"task_groups mixes embedders {', '.join(v[:12] for v in versions)}")
        records = rows.astype(object).where(rows.notna(), None).to_dict("records")
        groups = [Group.model_validate({k: r[k] for k in Group.model_fields}) for r in records]
        return cls(embedder_version=versions[0], groups=sorted(groups, key=lambda g: g.group_id))


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


class Assigner:
    """Finds the group of an embedded request. Immutable, so threads may share it."""

    def __init__(self, groups: Sequence[HasCentroid]) -> None:
        self._templates: dict[str, tuple[list[str], Floats, NDArray[np.float64]]] = {}
        for template in sorted({g.template_hash for g in groups}):
            own = [g for g in groups if g.template_hash == template]
            centroids = np.array([g.centroid for g in own], dtype=np.float32)
            radii = np.array([g.radius for g in own])
            self._templates[template] = [g.group_id for g in own], centroids, radii

    def __call__(self, vector: Floats, template_hash: str) -> tuple[str | None, float]:
        """Group of one vector (d,), None when unassigned, and the cosine distance to it."""
        known = self._templates.get(template_hash)
        if known is None:
            return None, float("nan")
        ids, centroids, radii = known
        distances = 1 - centroids @ vector
        nearest = int(distances.argmin())
        distance = round(float(distances[nearest]), 5)
        return (ids[nearest] if distance <= radii[nearest] else None), distance


def assign(
    groups: Groups, embeddings: Floats, template_hash: pd.Series
) -> list[tuple[str | None, float]]:
    """Group id (None: unassigned) and cosine distance of each row of ``embeddings`` (n, d)."""
    find = Assigner(groups.active)
    return [find(v, str(t)) for v, t in zip(embeddings, template_hash, strict=True)]


def member_rows(groups: Groups, frame: pd.DataFrame, embedder: Embedder) -> pd.DataFrame:
    """Rows of ``group_members`` for requests with columns prompt_id, text, template_hash.

    Raises:
        ValueError: if the groups live in another embedder's space.
    """
    if groups.embedder_version != embedder.version:
        raise ValueError("these groups were fitted with another embedder; fit them again")
    vectors = embedder.transform(frame["text"].tolist())
    found = assign(groups, vectors, frame["template_hash"])
    xy = embedder.map_xy(vectors)
    return pd.DataFrame(
        {
            "prompt_id": frame["prompt_id"].to_numpy(),
            "group_id": [g or UNASSIGNED for g, _ in found],
            # A template without groups has no distance; 2 is the farthest a cosine can be.
            "distance": np.nan_to_num([d for _, d in found], nan=2.0),
            "x": xy[:, 0].astype(float),
            "y": xy[:, 1].astype(float),
        }
    )


def _plus_plus(vectors: Floats, centroids: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Add seeds far from the present ones until there are ``k`` (k-means++)."""
    if not len(centroids):
        centroids = vectors[rng.integers(len(vectors))][None]
    while len(centroids) < k:
        gap = np.clip(1 - (vectors @ centroids.T).max(axis=1), 0, None).astype(float)
        if gap.sum() < 1e-6:  # fewer distinct requests than groups asked for
            break
        centroids = np.vstack([centroids, vectors[rng.choice(len(vectors), p=gap / gap.sum())]])
    return centroids


def _kmeans(vectors: Floats, centroids: Floats, steps: int = 50) -> Floats:
    """Lloyd's algorithm on the sphere; an emptied centroid stays where it was.

    Own loop because scikit-learn's adds up in thread order, and ids hang on every digit.
    """
    labels = np.full(len(vectors), -1)
    for _ in range(steps):
        last, labels = labels, (vectors @ centroids.T).argmax(axis=1)
        if np.array_equal(last, labels):
            break
        sums = np.stack([vectors[labels == i].sum(axis=0) for i in range(len(centroids))])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 1e-6, sums / np.maximum(norms, 1e-6), centroids)
    return centroids


def _stable_k(vectors: Floats, most: int, rng: np.random.Generator) -> int:
    """The finest partition, up to ``most`` groups, that two halves of the rows agree on."""
    rows = vectors[rng.permutation(len(vectors))[:STABILITY_ROWS]]
    halves = rows[::2], rows[1::2]
    empty = np.empty((0, rows.shape[1]), dtype=np.float32)
    for k in range(min(most, len(rows) // 4), 1, -1):
        fits = [_kmeans(half, _plus_plus(half, empty, k, rng)) for half in halves]
        if adjusted_rand_score(*((rows @ f.T).argmax(axis=1) for f in fits)) >= SAME_PARTITION:
            return k
    return 1


def _seeds(
    frame: pd.DataFrame, vectors: Floats, template: str, previous: Groups | None, version: str
) -> dict[str, Floats]:
    """Centroids to start from, by id: the old ones, or after a new embedder their old members."""
    old = [g for g in previous.active if g.template_hash == template] if previous else []
    if not previous or previous.embedder_version == version:
        return {g.group_id: np.array(g.centroid, dtype=np.float32) for g in old}
    if "group_id" not in frame:
        raise ValueError("the embedder changed: pass the old group_id of each row to keep the ids")
    means = {}
    for g in old:
        mean = vectors[(frame["group_id"] == g.group_id).to_numpy()].sum(axis=0)
        if norm := np.linalg.norm(mean):
            means[g.group_id] = mean / norm
    return means


def _fit_template(
    template: str, vectors: Floats, seeds: Mapping[str, Floats], most: int, seed: int
) -> Iterator[Group]:
    rng = np.random.default_rng([seed, zlib.crc32(template.encode())])
    k = max(_stable_k(vectors, most, rng), len(seeds))
    start = np.array(list(seeds.values()), dtype=np.float32).reshape(-1, vectors.shape[1])
    centroids = np.round(_kmeans(vectors, _plus_plus(vectors, start, k, rng)), 5)
    similarity = vectors @ centroids.T
    nearest = similarity.argmax(axis=1)
    ids = list(seeds)
    for i, centroid in enumerate(centroids):
        own = 1 - similarity[nearest == i, i]
        values = [float(f"{x:.5f}") for x in centroid]
        known = ids[i] if i < len(ids) else str(uuid.uuid5(NAMESPACE, f"{template} {values}"))
        radius = round(float(np.quantile(own, MEMBER_SHARE)), 5) if len(own) else 0.0
        yield Group(
            group_id=known,
            template_hash=template,
            centroid=values,
            radius=radius,
            size=len(own),
            status="active" if len(own) else "retired",
        )


def fit_groups(
    frame: pd.DataFrame,
    embedder: Embedder,
    *,
    previous: Groups | None,
    calibration_rows: int,
    min_rows_per_group: int = 800,
    max_groups: int = 12,
    seed: int = 0,
) -> Groups:
    """Group the requests; the same rows give the same ids, and a refit keeps the old ones.

    Groups never cross a template. A template is split only as far as each part can expect
    ``min_rows_per_group`` calibration rows and two halves of its rows agree on the split. Fit on
    requests of the train split: groups chosen on calibration rows would see them twice.

    Args:
        frame: columns prompt_id, text, template_hash, task; with group_id (the old assignment)
            ids survive a new embedder too.
        embedder: of the texts.
        previous: groups of the last fit, whose ids and names are kept.
        calibration_rows: held-out rows there will be over all templates.
        min_rows_per_group: calibration rows a group should expect.
        max_groups: templates beyond this number, smallest first, get no group: frontier only.
        seed: of the seeding and of the stability check.

    Raises:
        ValueError: if the frame is empty, or the embedder changed and group_id is absent.
    """
    if frame.empty:
        raise ValueError("there are no requests to group; import traces first")
    frame = frame.sort_values("prompt_id", ignore_index=True)
    vectors = embedder.transform(frame["text"].tolist())
    usable = np.linalg.norm(vectors, axis=1) > 0
    frame, vectors = frame[usable].reset_index(drop=True), vectors[usable]
    sizes = frame["template_hash"].value_counts().sort_index().sort_values(kind="stable")
    groups: list[Group] = []
    for template, size in sizes[::-1].head(max_groups).items():
        own = (frame["template_hash"] == template).to_numpy()
        share = size / len(frame)
        most = min(int(calibration_rows * share) // min_rows_per_group, round(max_groups * share))
        seeds = _seeds(frame[own], vectors[own], str(template), previous, embedder.version)
        groups += _fit_template(str(template), vectors[own], seeds, most, seed)
    kept = {g.group_id for g in groups}
    if previous and previous.embedder_version == embedder.version:
        gone = [g for g in previous.groups if g.group_id not in kept]
        groups += [g.model_copy(update={"status": "retired", "size": 0}) for g in gone]
    groups.sort(key=lambda g: g.group_id)
    names: dict[str, Any] = {g.group_id: g.name for g in previous.groups} if previous else {}
    result = Groups(embedder_version=embedder.version, groups=groups)
    found = assign(result, vectors, frame["template_hash"])
    described = describe(frame, [g for g, _ in found], [d for _, d in found])
    for group in result.active:
        for field, value in described.get(group.group_id, {}).items():
            setattr(group, field, value)
        group.name = names.get(group.group_id) or group.name or f"group {group.group_id[:8]}"
    return result
