"""Births, splits, merges and retirements of the groups of one template, at a refit.

Not here: writing them down (``groups/lineage.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.clustering.kmeans import best_kmeans, id_of, kmeans, rounded, stable_k
from loop_pipeline.groups.clustering.refit_inputs import Requests, Room, Unit, stack
from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.registry import Group

# Cosine of two centroids that mean the same. Without weights, two random halves of one CLINC150
# domain have 0.97 or more, two domains at most 0.59, what k-means makes of one domain at most 0.55.
MERGE_AT = 0.85
NEWBORN = 50  # distinct requests that make a group
TIGHT = 0.8  # of the mean cosine that members of present groups have to their centroids
NEIGHBOURS = 4_000  # rows of a pool whose surroundings are counted
PROPOSALS = 8  # of one refit and template
# Parts of a group that differ in quality: by how much, how sure
QUALITY_GAP = 0.15
QUALITY_Z = 3.3
SMALL_SHARE = 0.01
SMALL_REFITS = 4
WINDOW = 400


def recentre(vectors: Floats, units: Sequence[Unit]) -> None:
    """Move the units' centroids to where k-means takes them."""
    if units and len(vectors):
        for unit, centroid in zip(units, kmeans(vectors, stack(units)), strict=True):
            unit.centroid = centroid


def _distinct(requests: Requests, rows: NDArray[np.intp]) -> int:
    return requests.texts.iloc[rows].nunique()


def _densest(requests: Requests, pool: NDArray[np.intp], cohesion: float) -> NDArray[np.intp]:
    """Rows of the pool around its densest place.

    Two members of a cluster whose members have a mean cosine c to its centre have one of c^2.
    """
    vectors = requests.vectors[pool]
    some = vectors[:: -(-len(pool) // NEIGHBOURS)]
    around = vectors @ some[((some @ some.T) >= cohesion**2).sum(axis=1).argmax()] >= cohesion**2
    for _ in range(3):
        centre = vectors[around].sum(axis=0)
        around = vectors @ centre >= np.linalg.norm(centre) * cohesion / 2
    return pool[around]


def newcomers(
    template: str,
    requests: Requests,
    units: Sequence[Unit],
    candidates: Sequence[Group],
) -> list[tuple[Unit, NDArray[np.intp]]]:
    """Tight clusters of at least 50 distinct requests that no group of the last fit takes.

    They are nearly as tight as the present groups are, and lie apart from them. One that was a
    candidate before, and has requests that came since, has one refit more to its name.

    Returns:
        Units with their rows.
    """
    label, cosine = nearest(requests.vectors, stack(units))
    radius = np.array([u.before.radius if u.before else 2.0 for u in units])
    floor = np.array([u.before.floor if u.before else 0.0 for u in units])
    pool = np.flatnonzero((1 - cosine > radius[label]) | (requests.known < floor[label]))
    if _distinct(requests, pool) < NEWBORN:
        return []
    inside = np.delete(np.arange(len(label)), pool)
    cohesion = float(cosine[inside].mean()) if len(inside) else 0.0
    found: list[tuple[Unit, NDArray[np.intp]]] = []
    taken = [u.centroid for u in units]
    for _ in range(PROPOSALS):
        if _distinct(requests, pool) < NEWBORN:
            break
        rows = _densest(requests, pool, cohesion)
        pool = np.setdiff1d(pool, rows)
        own = requests.vectors[rows]
        centroid = unit(own.mean(axis=0, keepdims=True))[0]
        tight = float((own @ centroid).mean()) >= TIGHT * cohesion
        apart = max(float(c @ centroid) for c in taken) < MERGE_AT
        if tight and apart and _distinct(requests, rows) >= NEWBORN:
            taken.append(centroid)
            fresh = bool(requests.new[rows].any())
            found.append((_known(template, centroid, candidates, fresh), rows))
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
) -> list[Unit]:
    """Divide a group that has outgrown itself or whose parts differ in quality.

    The largest part keeps the id; the unit's centroid becomes that part's.

    Args:
        template: of the group.
        requests: those of the group only.
        unit: the group.
        room: how far it may be divided.
        rng: of the stability check.

    Returns:
        The other parts; none if the group stays whole.
    """
    expected = len(requests.vectors) * room.calibration_per_row
    for least, parts, reason in (
        (room.min_rows, _stable_parts, "it has grown to hold parts that two halves agree on"),
        (room.min_rows // 4, _quality_halves, "its parts differ in quality"),
    ):
        most = min(int(expected / least), room.groups + 1)
        centroids = parts(requests, most, rng) if most >= 2 else None
        if centroids is None or not _apart(centroids):
            continue
        sizes = np.bincount(nearest(requests.vectors, centroids)[0], minlength=len(centroids))
        if sizes.min() < NEWBORN or sizes.min() * room.calibration_per_row < least / 2:
            continue
        order = np.argsort(-sizes, kind="stable")
        unit.centroid = centroids[order[0]]
        rest = [centroids[i] for i in order[1:]]
        return [
            Unit(id_of(template, rounded(c)), c, related_id=unit.group_id, reason=reason)
            for c in rest
        ]
    return []


def _apart(centroids: Floats) -> bool:
    return bool(np.triu(centroids @ centroids.T, 1).max() < MERGE_AT)


def _stable_parts(requests: Requests, most: int, rng: np.random.Generator) -> Floats | None:
    vectors = requests.vectors
    k = stable_k(vectors, most, rng)
    return best_kmeans(vectors, vectors[:0], k, rng) if k > 1 else None


def _quality_halves(requests: Requests, _most: int, rng: np.random.Generator) -> Floats | None:
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
