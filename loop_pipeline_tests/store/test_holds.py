from __future__ import annotations

from sqlalchemy import Engine

from loop_pipeline.store.holds import all_holds, held_groups, hold_group, release_group


def test_a_group_is_held_until_it_is_released_and_both_are_kept(engine: Engine):
    assert hold_group(engine, "g1", reason="answers got worse", actor="ann")
    assert not hold_group(engine, "g1", reason="me too", actor="bob")
    assert hold_group(engine, "g2", reason="a new price list", actor="ann")
    assert [(h["group_id"], h["reason"]) for h in held_groups(engine)] == [
        ("g1", "answers got worse"),
        ("g2", "a new price list"),
    ]
    assert release_group(engine, "g1", actor="bob")
    assert not release_group(engine, "g1", actor="bob")
    assert [h["group_id"] for h in held_groups(engine)] == ["g2"]
    assert hold_group(engine, "g1", reason="again", actor="ann")
    assert [h["released_by"] for h in all_holds(engine)] == ["bob", None, None]
