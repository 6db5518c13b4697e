"""A held group is the frontier's until it is released, and everyone sees by whom and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student, student
from loop_pipeline.rollout.commands import history
from loop_pipeline.rollout.group_holds import hold, lines_of_holds, release
from loop_pipeline.rollout.release import introduce
from loop_pipeline.rollout.stored_policies import CannotRelease
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.store.holds import held_groups, hold_group
from loop_pipeline_tests.routing.conftest import World
from loop_pipeline_tests.serving.examples import OLD


@pytest.fixture
def bundle(world: World) -> PolicyBundle:
    return world.fit(student=student(OLD))


@pytest.fixture
def desk(engine: Engine, tmp_path: Path, bundle: PolicyBundle) -> Engine:
    add_student(engine, OLD)
    introduce(engine, tmp_path, bundle, staged=True)
    return engine


def test_a_group_is_held_by_name_or_id_and_released(desk: Engine, bundle: PolicyBundle):
    first, second = bundle.groups[0], bundle.groups[1]
    assert "is held: the frontier" in hold(desk, first.group_id[:8], actor="ann", reason="wrong")
    assert "is held already" in hold(desk, first.group_id, actor="bob", reason="other")
    hold(desk, second.group_id, actor="bob", reason="audit")
    assert [row["group_id"] for row in held_groups(desk)] == [first.group_id, second.group_id]
    [one, _] = lines_of_holds(desk)
    assert first.name in one
    assert "by ann: wrong" in one
    assert "is released" in release(desk, first.group_id, actor="bob")
    assert [row["group_id"] for row in held_groups(desk)] == [second.group_id]
    said = [line[20:] for line in history(desk)]
    assert f"held         group {first.group_id[:8]}, by ann: wrong" in said
    assert f"released     group {first.group_id[:8]}, by bob" in said


def test_what_cannot_be_held_or_released_says_what_can(desk: Engine, bundle: PolicyBundle):
    with pytest.raises(CannotRelease, match=r"0 groups are called 'nobody'; there are: "):
        hold(desk, "nobody", actor="ann", reason="x")
    with pytest.raises(CannotRelease, match="0 groups are called ''"):
        hold(desk, "", actor="ann", reason="x")
    with pytest.raises(CannotRelease, match="needs a reason"):
        hold(desk, bundle.groups[0].group_id, actor="ann", reason="  ")
    with pytest.raises(CannotRelease, match="there are: none"):
        release(desk, bundle.groups[0].group_id, actor="ann")


def test_a_group_that_is_in_no_policy_any_more_is_shown_and_released(desk: Engine):
    hold_group(desk, "gone" * 8, reason="then", actor="ann")
    assert "a group of no policy any more [gonegone]" in lines_of_holds(desk)[0]
    assert "is released" in release(desk, "gone", actor="ann")
    assert lines_of_holds(desk) == []
