"""Policies in words, and the published schema of the document."""

from __future__ import annotations

import numpy as np

from loop_pipeline.rollout.policy_text import coverage, differences, summary
from loop_pipeline.routing.policy import seal, with_canary


def test_the_same_policy_has_no_differences(bundle):
    assert differences(bundle, bundle) == []


def test_a_worse_student_is_told_group_by_group(world, bundle):
    poor = world.answers.assign(agrees=np.arange(len(world.answers)) % 5 > 0)
    other = {"checkpoint_id": "c2", "adapter": "student-c2"}
    lines = differences(bundle, world.fit(poor, previous=bundle, student=other))
    text = "\n".join(lines)
    assert f"certified coverage: {coverage(bundle):.1%} -> 0.0%" in text
    assert "student checkpoint_id: c1 -> c2" in lines
    assert "recalibration: 1 -> 2" in lines
    for group in bundle.groups:
        named = [line for line in lines if line.startswith(f"group {group.name}: ")]
        assert len(named) == 1
        assert f"to student-c1 for {group.coverage:.1%}" in named[0]
        assert "-> to the frontier (agreement is too low" in named[0]
    assert not any("same evidence" in line for line in lines)


def test_new_prices_change_the_cost_and_rest_on_the_same_evidence(world, bundle):
    costs = {
        "frontier_usd_per_request": {g.group_id: 0.01 for g in world.groups.active},
        "student_usd_per_request": 0.0004,
    }
    lines = differences(bundle, world.fit(previous=bundle, costs=costs))
    assert len(lines) == 2
    assert lines[0].startswith("expected cost of a request: $0.00")
    assert lines[1] == "both rest on the same evidence"


def test_groups_that_come_go_and_are_renamed(bundle):
    plain = bundle.model_dump(exclude={"sha256"})
    first, rest = plain["groups"][0], plain["groups"][1:]
    renamed = seal(**plain | {"groups": [first | {"name": "parcels"}, *rest]})
    assert f"group {first['name']} is called parcels now" in differences(bundle, renamed)
    fewer = seal(**plain | {"groups": rest})
    assert any(f"group {first['name']} is gone" in line for line in differences(bundle, fewer))
    assert any(f"group {first['name']} is new" in line for line in differences(fewer, bundle))


def test_a_canary_is_a_difference(world, bundle):
    other = world.fit(previous=bundle, student={"checkpoint_id": "c2", "adapter": "student-c2"})
    both = with_canary(bundle, other, "5%", 0.05)
    assert differences(bundle, both)[0] == "canary: none -> student-c2, 5%, 5%"


def test_the_summary_names_the_promise_and_every_group(bundle):
    text = "\n".join(summary(bundle))
    assert "at least 95.0% of what a cheaper model answers agrees with big" in text
    assert f"certified coverage {coverage(bundle):.1%}" in text
    assert all(f"{g.name} [{g.group_id[:8]}]: to student-c1" in text for g in bundle.groups)
