"""A new policy takes over between two requests; a bad one changes nothing."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loop_pipeline.routing.live_router import LiveRouter
from loop_pipeline.routing.policy import BadBundle, PolicyBundle
from loop_pipeline_tests.routing.conftest import World


@pytest.fixture
def file(tmp_path: Path, world: World, bundle: PolicyBundle) -> Path:
    world.embedder.save(tmp_path / "embedder.npz")
    path = tmp_path / "policy.json"
    path.write_text(bundle.to_text(), "utf-8")
    return path


@pytest.fixture
def live(file: Path) -> LiveRouter:
    return LiveRouter(lambda: file.read_text("utf-8"), file.parent, secret=None)


@pytest.fixture(scope="module")
def other(world: World, bundle: PolicyBundle) -> PolicyBundle:
    return world.fit(previous=bundle, frontier={"model": "bigger"})


def test_another_policy_is_loaded_and_the_same_one_is_not(live, file, other):
    before = live.current
    assert not live.refresh()
    assert live.current is before
    file.write_text(other.to_text(), "utf-8")
    assert live.refresh()
    assert live.current.bundle == other


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text.replace('"delta":0.05', '"delta":0.06'), "says sha256"),
        (lambda text: text.replace('"schema_version":4', '"schema_version":9'), "schema version 9"),
        (lambda text: text[:100], "not JSON"),
        (lambda text: "", "not JSON"),
    ],
)
def test_a_bad_policy_is_refused_in_one_line_and_the_active_one_stays(
    live, file, bundle, other, spoil, says, caplog
):
    file.write_text(spoil(other.to_text()), "utf-8")
    with caplog.at_level(logging.WARNING):
        assert not live.refresh()
        assert not live.refresh()
    assert live.current.bundle == bundle
    assert says in live.problem
    assert "\n" not in live.problem
    assert len(caplog.records) == 1  # not again for the same trouble
    file.write_text(other.to_text(), "utf-8")
    assert live.refresh()
    assert live.problem is None


def test_a_store_that_is_gone_changes_nothing(live, file, bundle):
    file.unlink()
    assert not live.refresh()
    assert live.current.bundle == bundle
    assert "No such file" in live.problem


def test_there_must_be_a_good_policy_to_start_with(file):
    with pytest.raises(BadBundle):
        LiveRouter(lambda: "{}", file.parent, secret=None)


def test_no_request_is_lost_while_policies_change(live, file, world, bundle, other):
    rows = world.answers[world.answers["group_id"] != "unassigned"].head(60)
    asked = list(zip(rows["text"], rows["template_hash"], strict=True))
    done, seen = threading.Event(), set()

    def serve(_):
        answered = 0
        while not done.is_set():
            for text, template in asked:
                router = live.current
                decision = router.decide([{"role": "user", "content": text}], text, template)
                settled = router.settle(decision, "refund", [-0.0001], finish_reason="stop")
                assert settled.action == "serve"
                seen.add(router.bundle.sha256)
                answered += 1
        return answered

    thread = live.watch(0.01)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(serve, i) for i in range(3)]
        for turn in range(12):
            part = file.with_suffix(".part")
            part.write_text((other if turn % 2 == 0 else bundle).to_text(), "utf-8")
            part.replace(file)
            threading.Event().wait(0.15)
        done.set()
        assert sum(a.result() for a in answers) > 100
    live.close()
    thread.join(5)
    assert seen == {bundle.sha256, other.sha256}
    assert not thread.is_alive()
