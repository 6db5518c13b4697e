"""Requests that a student and the frontier have answered, or the frontier twice, by the store.

Not here: what they prove (``live_promises.py``), and what they save (``live_bill.py``).

Each answer is read once: the index of drawn answers says which are new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from loop_pipeline.answers.agreement import agrees
from loop_pipeline.gateway.admin.figures.live_queries import drawn_answers, drawn_by_day, drawn_of


@dataclass(frozen=True)
class Both:
    """A request that a student and the frontier have answered; the student's answer went out."""

    day: str
    policy: str | None
    group_id: str | None
    canary: bool
    agrees: bool
    tokens_in: int
    tokens_out: int
    frontier_usd: float | None
    """None: unpriced."""


@dataclass(frozen=True)
class Again:
    """A request that the frontier has answered twice."""

    unit: str
    group_id: str | None
    agrees: bool


@dataclass
class _Day:
    seen: set[str] = field(default_factory=set)
    both: list[Both] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)


class TwiceAnswered:
    """Of the days that were asked for last."""

    def __init__(self) -> None:
        self._days: dict[str, _Day] = {}
        # Answers whose counterpart has not come, or never will: by request and who answered.
        self._alone: dict[tuple[str, str], dict[str, Any]] = {}
        # The frontier's answers whose second, or first, has not come: by request and which it is.
        self._once: dict[tuple[str, bool], dict[str, Any]] = {}

    @property
    def again(self) -> list[Again]:
        """Of the same days, what the frontier has answered twice."""
        return [pair for own in self._days.values() for pair in own.again]

    def read(self, connection: Connection, first: str) -> list[Both]:
        """Read what is new, and return all of the days from the first on."""
        counts = drawn_by_day(connection, first)
        self._days = {day: self._days.get(day, _Day()) for day in counts}
        self._alone = {k: row for k, row in self._alone.items() if row["day"] in counts}
        self._once = {k: row for k, row in self._once.items() if row["day"] in counts}
        for day, answers in counts.items():
            own = self._days[day]
            if answers != len(own.seen):
                self._read_day(connection, day, own)
        return [both for own in self._days.values() for both in own.both]

    def _read_day(self, connection: Connection, day: str, own: _Day) -> None:
        ids = drawn_of(connection, day)
        new = [prompt_id for prompt_id in ids if prompt_id not in own.seen]
        own.seen = set(ids)
        for row in drawn_answers(connection, new):
            mine = "frontier" if row["producer"] == "frontier" else "student"
            if mine == "frontier":
                self._read_again(row, own)
            if not row["first"]:
                continue
            # A student's answer that did not go out proves nothing about those that do.
            if mine == "student" and row["prompt_id"] != row["request"]:
                continue
            other = "student" if mine == "frontier" else "frontier"
            found = self._alone.pop((row["request"], other), None)
            if found is None:
                self._alone[row["request"], mine] = row
                continue
            student, frontier = (row, found) if mine == "student" else (found, row)
            home = self._days.get(student["day"], own)
            home.both.append(_both(student, frontier))

    def _read_again(self, row: dict[str, Any], own: _Day) -> None:
        """Find the frontier's other answer to the request, if one was asked for."""
        first = bool(row["first"])
        other = self._once.pop((row["request"], not first), None)
        if other is None:
            self._once[row["request"], first] = row
            return
        home = self._days.get(other["day"], own)
        same = agrees(row["output"], other["output"], _contract(row))
        unit = row["conversation_id"] or row["request"]
        home.again.append(Again(unit, row["group_id"], same))


def _contract(row: Mapping[str, Any]) -> dict[str, Any] | None:
    return row["contract"] if isinstance(row["contract"], dict) else None


def _both(student: Mapping[str, Any], frontier: Mapping[str, Any]) -> Both:
    return Both(
        student["day"],
        student["policy"],
        student["group_id"],
        bool(student["canary"]),
        agrees(student["output"], frontier["output"], _contract(student)),
        student["tokens_in"],
        student["tokens_out"],
        frontier["cost_usd"],
    )
