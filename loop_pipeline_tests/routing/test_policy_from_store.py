"""While no student is good enough the frontier keeps all; a held group needs newer answers."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import BORN
from loop_pipeline.artifacts import embedder_path
from loop_pipeline.routing.policy import PolicyBundle, load_bundle
from loop_pipeline.routing.policy_from_store import policy_from_store
from loop_pipeline.routing.router import Router
from loop_pipeline.settings import load_settings
from loop_pipeline.store.database import records, upsert
from loop_pipeline.store.tables import TaskGroupRow, TraceRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.routing.stored import store_world


def test_without_a_student_every_group_goes_to_the_frontier_and_says_why(world):
    nobody = world.frontier_only()
    assert {g.arm for g in nobody.groups} == {"frontier"}
    assert {g.reason for g in nobody.groups} == {"the student was refused: why"}
    assert [g.group_id for g in nobody.groups] == sorted(g.group_id for g in world.groups.active)
    assert nobody.to_text() == world.frontier_only().to_text()
    assert load_bundle(nobody.to_text()) == nobody
    router = Router(nobody, world.embedder)
    assert router.adapters == ()
    for text in world.answers["text"].head(50):
        assert router.decide([{"role": "user", "content": text}], text).arm == "frontier"


def test_the_first_student_after_it_spends_what_it_would_have_spent_anyway(world, bundle):
    after = world.fit(previous=world.frontier_only())
    assert after.recalibration == bundle.recalibration == 1
    assert [g.threshold for g in after.groups] == [g.threshold for g in bundle.groups]
    assert after.parent == world.frontier_only().sha256


@pytest.fixture
def stored(engine: Engine, world: World) -> Engine:
    """The small world in a store: all its rows are of one moment."""
    store_world(engine, world.answers)
    with engine.begin() as connection:
        upsert(connection, TaskGroupRow, records(world.groups.to_rows()))
    path = embedder_path(load_settings(), world.groups.embedder_version)
    path.parent.mkdir(parents=True, exist_ok=True)
    world.embedder.save(path)
    return engine


def fitted(
    engine: Engine, *holds: dict[str, Any], previous: PolicyBundle | None = None
) -> PolicyBundle:
    bundle, _ = policy_from_store(
        engine, load_settings(), previous=previous, challenger=None, holds=holds
    )
    return bundle


def test_a_held_group_is_not_certified_by_what_was_answered_before(
    stored: Engine,
) -> None:
    plain = fitted(stored)
    name = next(group.group_id for group in plain.groups if group.arm == "student")
    hold = {"group_id": name, "at": BORN + dt.timedelta(minutes=30)}
    held = fitted(stored, hold, previous=plain).group(name)
    assert held is not None
    assert (held.arm, held.n) == ("frontier", 0)
    assert "0 calibration rows" in held.reason
    table: Any = TraceRow.__table__
    later = table.update().where(table.c.split == "calibration")
    with stored.begin() as connection:
        connection.execute(later.values(ts=BORN + dt.timedelta(hours=1)))
    again = fitted(stored, hold, previous=plain).group(name)
    assert again is not None
    assert again.arm == "student"
