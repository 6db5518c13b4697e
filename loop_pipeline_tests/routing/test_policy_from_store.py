"""While no student is good enough the frontier keeps all."""

from __future__ import annotations

from loop_pipeline.routing.policy import load_bundle
from loop_pipeline.routing.router import Router


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
