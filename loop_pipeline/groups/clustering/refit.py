"""The groups of one template: a first fit, or a refit that starts from the registry.

Not here: the rules of births, splits and merges (``lifecycle.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.clustering.group_bounds import floor_of, member_share
from loop_pipeline.groups.clustering.kmeans import best_kmeans, id_of, rounded, stable_k
from loop_pipeline.groups.clustering.lifecycle import (
    SMALL_REFITS,
    merged,
    newcomers,
    recentre,
    small_for,
    split,
)
from loop_pipeline.groups.clustering.refit_inputs import Requests, Room, Unit, stack
from loop_pipeline.groups.registry import Group, Groups

MEMBERS_KEPT = 0.7  # of a group's members stay with it over a new embedder, or its id ends
BIRTH_REFITS = 2


def fit_template(
    template: str,
    requests: Requests,
    previous: Groups | None,
    version: str,
    room: Room,
    *,
    most: int,
    window: int,
    rng: np.random.Generator,
) -> list[Group]:
    """Groups of one template, those that end or wait included.

    Args:
        template: its hash.
        requests: its rows, by prompt id.
        previous: groups of the last fit.
        version: of the embedder.
        room: how far the traffic may be divided.
        most: groups a first fit may make.
        window: new requests of all templates.
        rng: of the seeding and of the stability check.
    """
    old = [g for g in previous.active if g.template_hash == template] if previous else []
    if not old or previous is None:
        vectors = requests.vectors
        k = stable_k(vectors, most, rng)
        centroids = np.round(best_kmeans(vectors, vectors[:0], k, rng), 5)
        why = "first fit of its template"
        units = [Unit(id_of(template, rounded(c)), c, reason=why) for c in centroids]
        return _rows(template, requests, units)
    if previous.embedder_version != version:
        return _moved(template, requests, old)
    units = [Unit(g.group_id, np.array(g.centroid, np.float32), g, g.streak) for g in old]
    waiting = [
        g for g in previous.groups if g.status == "candidate" and g.template_hash == template
    ]
    found = newcomers(template, requests, units, waiting)
    keep = np.ones(len(requests.vectors), dtype=bool)
    candidates: list[Group] = []
    for unit, rows in found:
        if unit.streak >= BIRTH_REFITS and room.groups > 0:
            room = room._replace(groups=room.groups - 1)
            unit.reason, unit.streak, unit.before = f"{len(rows)} requests of no group", 0, None
            units.append(unit)
        else:
            keep[rows] = False
            candidates.append(_candidate(template, unit, _part(requests, rows)))
    return _refitted(template, _part(requests, keep), units, room, window, rng) + candidates


def _refitted(
    template: str,
    requests: Requests,
    units: list[Unit],
    room: Room,
    window: int,
    rng: np.random.Generator,
) -> list[Group]:
    """Warm start, then merges, retirements and splits, each followed by k-means."""
    vectors, ended = requests.vectors, []
    for _ in range(2):  # k-means drives alike centroids apart: they are compared before it, too
        label = nearest(vectors, stack(units))[0]
        units, gone = merged(units, np.bincount(label, minlength=len(units)))
        room = room._replace(groups=room.groups + len(gone))
        ended += [_end(template, unit, "merged", unit.reason) for unit in gone]
        recentre(vectors, units)
    label = nearest(vectors, stack(units))[0]
    stay, small = _retire(units, label, requests.new, window)
    ended += [_end(template, unit, "retired", unit.reason) for unit in small]
    if small and stay:
        # Its requests belong to no other group because of that: they are nobody's now.
        kept = np.isin(label, [i for i, unit in enumerate(units) if unit in stay])
        requests = _part(requests, kept)
        recentre(requests.vectors, stay)
        label = nearest(requests.vectors, stack(stay))[0]
    parts: list[Unit] = []
    for i, unit in enumerate(stay):
        if unit.before and window:  # the same requests again divide nothing
            left = room._replace(groups=room.groups - len(parts))
            parts += split(template, _part(requests, label == i), unit, left, rng)
    if parts:
        recentre(requests.vectors, stay + parts)
    return _rows(template, requests, stay + parts) + ended


def _retire(
    units: Sequence[Unit], label: NDArray[np.intp], new: NDArray[np.bool_], window: int
) -> tuple[list[Unit], list[Unit]]:
    """Units that go on, and those that were too small for too long or have no requests."""
    stay: list[Unit] = []
    gone: list[Unit] = []
    for i, unit in enumerate(units):
        own = label == i
        share = float((own & new).sum()) / max(window, 1)
        unit.streak = small_for(unit.streak, share, window) if unit.before else 0
        if unit.streak >= SMALL_REFITS:
            unit.reason = f"under 1% of the new requests for {SMALL_REFITS} refits"
        elif not own.any():
            unit.reason = "no requests are left"
        else:
            stay.append(unit)
            continue
        gone.append(unit)
    return stay, gone


def _part(requests: Requests, keep: NDArray[Any]) -> Requests:
    owner = None if requests.owner is None else requests.owner[keep]
    return Requests(
        requests.vectors[keep],
        requests.known[keep],
        requests.floor,
        requests.texts.iloc[keep],
        requests.new[keep],
        requests.quality[keep],
        owner,
    )


def _moved(template: str, requests: Requests, old: Sequence[Group]) -> list[Group]:
    """Groups in a new embedder's space: each starts from where its members lie now.

    An id goes on only with 70% of its members.

    Raises:
        ValueError: it is not known whose members the rows were.
    """
    owner = requests.owner
    if owner is None:
        raise ValueError("the embedder changed: pass the old group_id of each row to keep the ids")
    units = []
    for g in old:
        mean = requests.vectors[owner == g.group_id].sum(axis=0)
        if norm := np.linalg.norm(mean):
            units.append(Unit(g.group_id, mean / norm, g, g.streak))
    if not units:
        units = [Unit("", requests.vectors[0])]
    recentre(requests.vectors, units)
    label = nearest(requests.vectors, stack(units))[0]
    ended = []
    for i, unit in enumerate(units):
        stayed = float((label[owner == unit.group_id] == i).mean()) if unit.before else 0.0
        if stayed < MEMBERS_KEPT:
            if unit.before:
                why = f"a new embedder keeps {stayed:.0%} of its members together"
                ended.append(_end(template, unit, "retired", why))
            unit.group_id = id_of(template, rounded(unit.centroid))
            unit.before, unit.streak, unit.reason = None, 0, "first fit with a new embedder"
    return _rows(template, requests, units) + ended


def _rows(template: str, requests: Requests, units: Sequence[Unit]) -> list[Group]:
    """Registry rows of the units that take requests from now on."""
    if not units:
        return []
    centroids = np.round(stack(units), 5)
    label, cosine = nearest(requests.vectors, centroids)
    rows = []
    for i, unit in enumerate(units):
        floor = unit.before.floor if unit.before else floor_of(requests, label == i)
        own = 1 - cosine[(label == i) & (requests.known >= floor)]
        row = Group(
            group_id=unit.group_id,
            template_hash=template,
            centroid=rounded(unit.centroid),
            radius=round(float(np.quantile(own, member_share(requests))), 5) if len(own) else 0.0,
            floor=floor,
            size=len(own),
            streak=unit.streak,
            related_id=unit.related_id,
            reason=unit.reason,
        )
        if unit.before:
            row.name, row.renamed = unit.before.name, unit.before.renamed
            row.related_id = unit.related_id or unit.before.related_id
            row.reason = unit.reason or unit.before.reason
        if not len(own):
            row.status, row.reason = "retired", "no requests are left"
        rows.append(row)
    return rows


def _candidate(template: str, unit: Unit, requests: Requests) -> Group:
    """A cluster of the unassigned pool that has to show itself once more."""
    distance = 1 - requests.vectors @ unit.centroid
    return Group(
        group_id=unit.group_id,
        name=f"candidate {unit.group_id[:8]}",
        template_hash=template,
        centroid=rounded(unit.centroid),
        radius=round(float(np.quantile(distance, member_share(requests))), 5),
        floor=floor_of(requests, np.ones(len(distance), dtype=bool)),
        size=len(distance),
        status="candidate",
        streak=unit.streak,
        reason="waits for the next refit" if unit.streak < BIRTH_REFITS else "there is no room",
    )


def _end(template: str, unit: Unit, status: str, reason: str) -> Group:
    """The last row of a group."""
    before = unit.before.model_dump() if unit.before else {"template_hash": template}
    return Group.model_validate(
        before
        | {"group_id": unit.group_id, "centroid": rounded(unit.centroid), "size": 0}
        | {"radius": unit.before.radius if unit.before else 0.0, "status": status}
        | {"streak": unit.streak, "related_id": unit.related_id, "reason": reason}
    )
