"""Births, splits, merges and retirements of the groups of one template, at a refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.groups.embedding import Floats
from loop_pipeline.groups.kmeans import id_of, kmeans, nearest, plus_plus, rounded, stable_k
from loop_pipeline.groups.registry import Group

MERGE_AT = 0.85  # cosine of two centroids that mean the same
NEWBORN = 50  # distinct requests that make a group
PROPOSALS = 8  # of one refit and template
QUALITY_GAP, QUALITY_Z = 0.15, 3.3  # parts of a group that differ in quality: by how much, how sure
SMALL_SHARE, SMALL_REFITS, WINDOW = 0.01, 4, 400

Rows = NDArray[np.bool_]


@dataclass(eq=False)
class Unit:
    """A group while it is fitted: its centroid, and its row in the registry if it has one."""

    group_id: str
    centroid: Floats
    before: Group | None = None
    streak: int = 0
    related_id: str | None = None
    reason: str = ""


class Requests(NamedTuple):
    """Rows of one template: vectors (n, d) and what a refit looks at besides."""

    vectors: Floats
    texts: pd.Series
    new: Rows
    """Not in the fit before."""
    quality: NDArray[np.float64]
    """P(good) of the answer, NaN where unknown."""
    owner: NDArray[np.object_] | None
    """Group of each row by the fit before."""


class Room(NamedTuple):
    """How far a refit may divide the traffic."""

    calibration_per_row: float
    min_rows: int
    groups: int
    """How many more there may be."""


def stack(units: Sequence[Unit]) -> Floats:
    """Centroids of units, shape (k, d)."""
    return np.stack([u.centroid for u in units])


def settle(vectors: Floats, units: Sequence[Unit]) -> None:
    """Move the units' centroids to where k-means takes them."""
    if units and len(vectors):
        for unit, centroid in zip(units, kmeans(vectors, stack(units)), strict=True):
            unit.centroid = centroid


def _distinct(requests: Requests, rows: NDArray[np.intp]) -> int:
    return requests.texts.iloc[rows].nunique()


def _tight(requests: Requests, rows: NDArray[np.intp], cohesion: float) -> NDArray[np.intp]:
    """Rows around the centre of a proposed cluster; none if they are no cluster by themselves."""
    own = rows
    for _ in range(3):
        if _distinct(requests, own) < NEWBORN:
            return rows[:0]
        centre = requests.vectors[own].mean(axis=0)
        centre = centre / max(float(np.linalg.norm(centre)), 1e-6)
        own = rows[requests.vectors[rows] @ centre >= cohesion / 2]
    whole = requests.vectors[own] @ centre
    return own if _distinct(requests, own) >= NEWBORN and whole.mean() >= cohesion else rows[:0]


def newcomers(
    template: str,
    requests: Requests,
    units: Sequence[Unit],
    candidates: Sequence[Group],
    rng: np.random.Generator,
) -> list[tuple[Unit, NDArray[np.intp]]]:
    """Tight clusters of at least 50 distinct requests that no group of the last fit takes.

    They are at least as tight as the present groups are, and lie apart from them. One that was a
    candidate before, and has requests that came since, has one refit more to its name.

    Returns:
        Units with their rows.
    """
    label, cosine = nearest(requests.vectors, stack(units))
    radius = np.array([u.before.radius if u.before else 2.0 for u in units])
    pool = np.flatnonzero(1 - cosine > radius[label])
    if _distinct(requests, pool) < NEWBORN:
        return []
    inside = np.delete(np.arange(len(label)), pool)
    cohesion = float(cosine[inside].mean()) if len(inside) else 0.0
    vectors = requests.vectors[pool]
    k = stable_k(vectors, PROPOSALS, rng)
    centres = kmeans(vectors, plus_plus(vectors, vectors[:0], k, rng))
    part, found = nearest(vectors, centres)[0], []
    taken = [u.centroid for u in units]
    for i in range(len(centres)):
        rows = _tight(requests, pool[part == i], cohesion)
        if not len(rows):
            continue
        centroid = requests.vectors[rows].mean(axis=0)
        centroid = (centroid / np.linalg.norm(centroid)).astype(np.float32)
        if max(float(c @ centroid) for c in taken) < MERGE_AT:
            taken.append(centroid)
            found.append((_known(template, centroid, candidates, requests.new[rows].any()), rows))
    return found


def _known(template: str, centroid: Floats, candidates: Sequence[Group], fresh: bool) -> Unit:
    """The candidate that this cluster was before, or a new one."""
    for before in candidates:
        if np.array(before.centroid, dtype=np.float32) @ centroid >= MERGE_AT:
            seen = before.streak + int(fresh)
            return Unit(before.group_id, centroid, before, seen)
    return Unit(id_of(template, rounded(centroid)), centroid, None, 1)


def merged(units: list[Unit], sizes: NDArray[np.intp]) -> tuple[list[Unit], list[Unit]]:
    """Join groups whose centroids have come to mean the same; the larger keeps its id.

    Returns:
        The units that stay, and those that are merged into one of them.
    """
    order = sorted(range(len(units)), key=lambda i: (-sizes[i], units[i].group_id))
    stay: list[Unit] = []
    gone: list[Unit] = []
    for i in order:
        unit = units[i]
        cosines = [float(unit.centroid @ other.centroid) for other in stay]
        if cosines and max(cosines) >= MERGE_AT:
            unit.related_id = stay[int(np.argmax(cosines))].group_id
            unit.reason = f"the centroids have come to a cosine of {max(cosines):.2f}"
            gone.append(unit)
        else:
            stay.append(unit)
    return [u for u in units if u in stay], gone


def split(
    template: str, requests: Requests, unit: Unit, room: Room, rng: np.random.Generator
) -> Unit | None:
    """Divide a group that has outgrown itself or whose parts differ in quality.

    The larger part keeps the id; the unit's centroid becomes that part's.

    Args:
        template: of the group.
        requests: those of the group only.
        unit: the group.
        room: how far it may be divided.
        rng: of the stability check.

    Returns:
        The other part, or None if the group stays whole.
    """
    for least, parts, reason in (
        (room.min_rows, _halves, "it has grown to hold two stable halves"),
        (room.min_rows // 4, _quality_halves, "its parts differ in quality"),
    ):
        if len(requests.vectors) * room.calibration_per_row < 2 * least:
            continue
        centroids = parts(requests, rng)
        if centroids is None or float(centroids[0] @ centroids[1]) >= MERGE_AT:
            continue
        sizes = np.bincount(nearest(requests.vectors, centroids)[0], minlength=2)
        if sizes.min() < NEWBORN or sizes.min() * room.calibration_per_row < least:
            continue
        small = int(sizes.argmin())
        unit.centroid = centroids[1 - small]
        new = id_of(template, rounded(centroids[small]))
        return Unit(new, centroids[small], related_id=unit.group_id, reason=reason)
    return None


def _halves(requests: Requests, rng: np.random.Generator) -> Floats | None:
    if stable_k(requests.vectors, 2, rng) < 2:
        return None
    return kmeans(requests.vectors, plus_plus(requests.vectors, requests.vectors[:0], 2, rng))


def _quality_halves(requests: Requests, rng: np.random.Generator) -> Floats | None:
    """Centroids of a better and a worse part; found on half of the scored rows, tested on the rest.

    Two clouds cut by their quality always differ on the rows they were cut by.
    """
    scored = rng.permutation(np.flatnonzero(~np.isnan(requests.quality)))
    fit, test = scored[::2], scored[1::2]
    if len(test) < 2 * NEWBORN:
        return None
    good = requests.quality[fit] > requests.quality[fit].mean()
    if good.all() or not good.any():
        return None
    vectors = requests.vectors[fit]
    seeds = np.stack([vectors[~good].mean(axis=0), vectors[good].mean(axis=0)])
    seeds = seeds / np.maximum(np.linalg.norm(seeds, axis=1, keepdims=True), 1e-6)
    centroids = kmeans(vectors, seeds.astype(np.float32))
    part = nearest(requests.vectors[test], centroids)[0] == 0
    worse, better = requests.quality[test][part], requests.quality[test][~part]
    if min(len(worse), len(better)) < NEWBORN:
        return None
    gap = abs(float(better.mean() - worse.mean()))
    noise = np.sqrt(worse.var(ddof=1) / len(worse) + better.var(ddof=1) / len(better))
    return centroids if gap >= max(QUALITY_GAP, QUALITY_Z * float(noise)) else None


def small_for(streak: int, share: float, window: int) -> int:
    """Refits in a row that a group got under 1% of the new requests; few new ones tell nothing."""
    if window < WINDOW:
        return streak
    return streak + 1 if share < SMALL_SHARE else 0
