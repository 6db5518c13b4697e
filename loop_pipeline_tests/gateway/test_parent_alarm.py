"""A live run: the frontier begins to disagree, and its group is held through the whole chain.

A real gateway, a real store, `loop ship`, and the look of the sensor; frontier and student are
local servers whose answers are known. How long it took is in ``benchmarks/results/risk.json``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from loop_pipeline_tests.gateway.live_alarm import live_alarm

pytestmark = pytest.mark.slow


def test_a_frontier_that_disagrees_in_one_group_gets_its_requests_back(
    loop_environment: Path,
) -> None:
    loop_environment.mkdir(exist_ok=True)
    found = live_alarm(loop_environment)
    assert found.served_before > 0
    assert found.held == "g-certified"
    assert "disagree with the frontier, promised were at most 5.0%" in found.alert
    assert "is held, the frontier answers its requests" in found.alert
    assert found.at_frontier_after == found.asked_after
    assert found.served_after == 0
    assert found.shadowed_after > 0, "a held group goes on being shadowed"
    assert found.served_in_the_other_group > 0, "the other group is served all the while"
    assert found.served_after_release > 0
    assert found.open_alerts_after_release == 0
