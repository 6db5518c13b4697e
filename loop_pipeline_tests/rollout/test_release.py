"""Policies come into force and go back as one: pointer, statuses, history, bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from benchmarks.fixtures import add_student, student
from loop_pipeline.rollout.release import (
    CannotRelease,
    advance,
    in_force,
    introduce,
    publish,
    roles,
    roll_back,
    without_canary,
)
from loop_pipeline.routing.policy import BadBundle, PolicyBundle
from loop_pipeline.store.checkpoints import set_checkpoint
from loop_pipeline.store.database import read, records
from loop_pipeline.store.policies import (
    PolicyChanged,
    champions_so_far,
    policy_events,
    refused_student,
    spent_recalibrations,
)
from loop_pipeline.store.tables import CheckpointRow, PolicyRow
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import NEW, NEWER, OLD

WHO: dict[str, Any] = {"actor": "test", "reason": "because"}


@pytest.fixture(scope="module")
def policies(world: World) -> dict[str, PolicyBundle]:
    """The first champion, its refit at other prices, and two challengers of that refit."""
    first = world.fit(student=student(OLD))
    costs = {"frontier_usd_per_request": {}, "student_usd_per_request": 0.0001}
    refit = world.fit(student=student(OLD), previous=first, costs=costs)
    return {
        "first": first,
        "refit": refit,
        "new": world.fit(student=student(NEW), previous=refit),
        "newer": world.fit(student=student(NEWER), previous=refit, recalibrations=2),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "policies"


@pytest.fixture
def desk(engine: Engine, folder: Path, policies: dict[str, PolicyBundle]) -> Engine:
    """OLD serves by its second policy; NEW and NEWER are approved, too."""
    for name in (OLD, NEW, NEWER):
        add_student(engine, name)
    for name in ("first", "refit"):
        introduce(engine, folder, policies[name], staged=True)
    return engine


def statuses(engine: Engine) -> dict[str, str]:
    return {r["checkpoint_id"]: r["status"] for r in records(read(engine, CheckpointRow))}


def force(engine: Engine) -> PolicyBundle:
    bundle = in_force(engine)
    assert bundle is not None
    return bundle


def test_another_student_begins_in_shadow_and_walks_to_the_top(desk, folder, policies):
    seen = [introduce(desk, folder, policies["new"], staged=True)]
    seen += [advance(desk, folder, **WHO) for _ in range(4)]
    assert [(b.canary.stage, b.canary.weight) for b in seen if b.canary] == [
        ("shadow", 0.0),
        ("1%", 0.01),
        ("5%", 0.05),
        ("25%", 0.25),
    ]
    assert {b.parent for b in seen} == {policies["refit"].sha256}, "one step back is the champion"
    assert seen[-1].to_text() == policies["new"].to_text() == force(desk).to_text()
    assert policy_events(desk)["action"].tolist() == [
        "fitted", "fitted", "started", "advanced", "advanced", "advanced", "promoted",
    ]  # fmt: skip
    with pytest.raises(CannotRelease, match="no rollout"):
        advance(desk, folder, **WHO)
    for bundle in seen:
        file = folder / f"{bundle.sha256[:16]}.json"
        assert file.read_text() == bundle.to_text()


@pytest.mark.parametrize("stages", range(5))
def test_a_rollback_restores_the_very_bytes_from_every_stage(desk, folder, policies, stages):
    introduce(desk, folder, policies["new"], staged=True)
    for _ in range(stages):
        advance(desk, folder, **WHO)
    back = roll_back(desk, folder, **WHO)
    assert back.to_text() == force(desk).to_text() == policies["refit"].to_text()
    assert statuses(desk) == {OLD: "approved", NEW: "retired", NEWER: "approved"}
    last = policy_events(desk).iloc[-1]
    assert last["action"] == ("rolled back" if stages == 4 else "stopped")
    assert (last["champion_id"], last["canary_id"]) == (OLD, None)
    assert read(desk, PolicyRow)["active_to"].isna().sum() == 1


def test_one_more_step_back_is_the_policy_before_and_then_there_is_none(desk, folder, policies):
    assert roll_back(desk, folder, **WHO).to_text() == policies["first"].to_text()
    assert statuses(desk)[OLD] == "approved", "it is the same student by older thresholds"
    with pytest.raises(CannotRelease, match="is the first: there is none before it"):
        roll_back(desk, folder, **WHO)
    assert force(desk) == policies["first"]


def test_what_was_taken_back_has_still_spent_its_chance(desk, folder, policies):
    introduce(desk, folder, policies["new"], staged=True)
    roll_back(desk, folder, **WHO)
    assert policies["new"].recalibration == 2
    assert force(desk).recalibration == 1
    assert spent_recalibrations(desk) == 2
    assert policies["newer"].recalibration == 3


def test_introducing_it_again_changes_nothing(desk, folder, policies):
    introduce(desk, folder, policies["new"], staged=True)
    advance(desk, folder, **WHO)
    before = force(desk), len(policy_events(desk))
    introduce(desk, folder, policies["new"], staged=True)
    assert (force(desk), len(policy_events(desk))) == before


def test_in_shadow_its_policy_may_be_fitted_again(desk, folder, policies, world):
    introduce(desk, folder, policies["new"], staged=True)
    again = world.fit(student=student(NEW), previous=policies["refit"], challenger=policies["new"])
    assert again.to_text() == policies["new"].to_text(), "the same evidence spends nothing"
    fresh = world.fit(
        student=student(NEW),
        previous=policies["refit"],
        challenger=policies["new"],
        versions={"detector": "2"},
    )
    assert (fresh.recalibration, fresh.parent) == (3, policies["refit"].sha256)
    bundle = introduce(desk, folder, fresh, staged=True)
    assert bundle.canary is not None
    assert bundle.canary.policy == fresh
    assert policy_events(desk)["action"].tolist()[-2:] == ["started", "refitted"]
    assert statuses(desk)[NEW] == "approved"


def test_a_newer_challenger_takes_the_place_of_the_one_on_trial(desk, folder, policies):
    introduce(desk, folder, policies["new"], staged=True)
    advance(desk, folder, **WHO)
    bundle = introduce(desk, folder, policies["newer"], staged=True)
    assert bundle.canary is not None
    assert (bundle.canary.stage, bundle.canary.policy) == ("shadow", policies["newer"])
    assert without_canary(desk, bundle) == policies["refit"]
    assert statuses(desk)[NEW] == "retired"


def test_direct_puts_it_in_force_at_once(desk, folder, policies):
    assert introduce(desk, folder, policies["new"], staged=False) == policies["new"]
    assert force(desk) == policies["new"]
    assert statuses(desk)[OLD] == "approved", "kept for a rollback"


def test_a_challenger_without_certificate_stays_a_shadow(desk, folder, policies, world):
    poor = world.answers.assign(agrees=False)
    weak = world.fit(poor, student=student(NEW), previous=policies["refit"])
    introduce(desk, folder, weak, staged=True)
    with pytest.raises(CannotRelease, match="no group of the challenger is certified"):
        advance(desk, folder, **WHO)


def test_roles_name_what_has_to_be_loaded(desk, folder, policies):
    assert {role: row["checkpoint_id"] for role, row in roles(desk).items()} == {
        "champion": OLD,
        "challenger": NEWER,
    }
    introduce(desk, folder, policies["new"], staged=False)
    introduce(desk, folder, policies["newer"], staged=True)
    assert {role: row["checkpoint_id"] for role, row in roles(desk).items()} == {
        "champion": NEW,
        "canary": NEWER,
        "previous": OLD,
    }
    roll_back(desk, folder, **WHO)
    roll_back(desk, folder, **WHO)
    assert {role: row["checkpoint_id"] for role, row in roles(desk).items()} == {"champion": OLD}


def test_before_the_first_policy_the_newest_approved_is_the_champion(engine: Engine):
    assert roles(engine) == {}
    add_student(engine, OLD)
    add_student(engine, NEW, status="rejected")
    assert {role: row["checkpoint_id"] for role, row in roles(engine).items()} == {"champion": OLD}


def test_whoever_is_second_is_told(desk, folder, policies, monkeypatch):
    stale = {"sha256": policies["first"].sha256}
    monkeypatch.setattr("loop_pipeline.rollout.release.active_policy", lambda _: stale)
    before = statuses(desk)
    with pytest.raises(PolicyChanged, match="is not in force any more, nothing was changed"):
        publish(desk, folder, policies["new"], action="x", statuses={OLD: "retired"}, **WHO)
    assert statuses(desk) == before
    monkeypatch.undo()
    assert force(desk) == policies["refit"]


def test_a_stored_policy_that_was_altered_is_not_returned_to(desk, folder, policies):
    introduce(desk, folder, policies["new"], staged=False)
    spoilt = policies["refit"].to_text().replace('"delta":0.05', '"delta":0.06')
    with desk.begin() as connection:
        own = PolicyRow.sha256 == policies["refit"].sha256
        connection.execute(update(PolicyRow).where(own).values(bundle=spoilt))
    with pytest.raises(BadBundle, match="says sha256"):
        roll_back(desk, folder, **WHO)
    assert force(desk) == policies["new"]


def test_while_no_student_is_good_enough_the_frontier_keeps_all(
    world, engine: Engine, folder: Path
) -> None:
    """The first good one then serves at once, and a rollback returns to the frontier."""
    add_student(engine, OLD)
    set_checkpoint(engine, OLD, status="rejected")
    found = refused_student(engine)
    assert found is not None
    assert found["checkpoint_id"] == OLD
    nobody = introduce(engine, folder, world.frontier_only(), staged=True)
    assert in_force(engine) == nobody
    assert roles(engine) == {}
    assert champions_so_far(engine) == []
    assert spent_recalibrations(engine) == 0

    add_student(engine, NEW)
    assert refused_student(engine) is None
    assert roles(engine)["champion"]["checkpoint_id"] == NEW
    fitted = world.fit(student=student(NEW), previous=nobody)
    assert introduce(engine, folder, fitted, staged=True) == fitted
    assert champions_so_far(engine) == [NEW]
    assert roll_back(engine, folder, **WHO) == nobody
    assert statuses(engine) == {OLD: "rejected", NEW: "retired"}
    assert roles(engine) == {}
