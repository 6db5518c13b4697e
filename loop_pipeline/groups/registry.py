"""The groups of a fit, as the store keeps them, and what became of them since the fit before.

Not here: how they are found (``clustering``).
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel

UNASSIGNED = "unassigned"


Status = Literal["active", "candidate", "merged", "retired"]


class Group(BaseModel):
    """Requests of one template that lie near one centroid.

    A parent (no ``parent_id``) is a unit of certification, a leaf a finer unit of reporting.
    """

    group_id: str
    name: str = ""
    template_hash: str
    task: str | None = None
    terms: list[str] = []
    exemplars: list[str] = []
    centroid: list[float]
    radius: float
    floor: float = 0.0
    """How much of a request its embedder has to know (the length of its vector)."""
    size: int
    status: Status = "active"
    parent_id: str | None = None
    renamed: bool = False
    """A person chose the name: no refit changes it."""
    streak: int = 0
    """Refits in a row that a candidate was seen, or that an active group was too small."""
    related_id: str | None = None
    """The group it was split from, or the one it was merged into."""
    reason: str = ""


class Change(NamedTuple):
    """One event in the life of a group."""

    kind: str
    from_id: str | None
    to_id: str | None
    reason: str


class Groups(BaseModel):
    """All groups of one fit and the embedder their centroids live in."""

    embedder_version: str
    groups: list[Group]

    @property
    def version(self) -> str:
        """sha256 of everything that decides an assignment."""
        deciding = [
            (g.group_id, g.template_hash, g.centroid, g.radius, g.floor) for g in self.active
        ]
        return hashlib.sha256(json.dumps([self.embedder_version, deciding]).encode()).hexdigest()

    @property
    def active(self) -> list[Group]:
        """Parents that still take requests."""
        return [g for g in self.groups if g.status == "active" and g.parent_id is None]

    @property
    def leaves(self) -> list[Group]:
        """Leaves that still take requests."""
        return [g for g in self.groups if g.status == "active" and g.parent_id is not None]

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

    def changes_since(self, previous: Groups | None) -> list[Change]:
        """What was born, split, merged or retired since the fit before, by group id."""
        before = {g.group_id: g.status for g in previous.groups} if previous else {}
        found = []
        for g in self.groups:
            was = before.get(g.group_id)
            if g.status == "active" and was != "active":
                kind = "split" if g.related_id else "born"
                found.append(Change(kind, g.related_id, g.group_id, g.reason))
            elif g.status in ("merged", "retired") and was == "active":
                found.append(Change(g.status, g.group_id, g.related_id, g.reason))
        return found
