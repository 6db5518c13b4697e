from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.evaluation.preference_gate import StageMetrics, keep_preference_stage

SUPERVISED = StageMetrics(hallucination_rate=0.08, validity=0.99, ece=0.03, certified_coverage=0.8)
share = st.floats(0, 1)
metrics = st.builds(
    StageMetrics,
    hallucination_rate=share,
    validity=share,
    ece=share,
    certified_coverage=share,
)


def test_less_hallucination_at_no_cost_is_kept():
    better = SUPERVISED.model_copy(update={"hallucination_rate": 0.05})
    decision = keep_preference_stage(SUPERVISED, better)
    assert decision.keep
    assert decision.reasons[0] == "hallucination_rate 0.0800 -> 0.0500: better"


@pytest.mark.parametrize(
    "change",
    [
        {"hallucination_rate": 0.08},
        {"hallucination_rate": 0.09},
        {"hallucination_rate": 0.05, "validity": 0.98},
        {"hallucination_rate": 0.05, "ece": 0.04},
        {"hallucination_rate": 0.05, "certified_coverage": 0.79},
        {"hallucination_rate": 0.05, "ece": None},
        {"hallucination_rate": None},
    ],
)
def test_the_supervised_adapter_stays_otherwise(change: dict[str, float | None]):
    decision = keep_preference_stage(SUPERVISED, SUPERVISED.model_copy(update=change))
    assert not decision.keep
    assert any("worse" in r or "same" in r or "not measured" in r for r in decision.reasons)


@given(metrics, metrics)
def test_never_both_ways(a: StageMetrics, b: StageMetrics):
    assert not (keep_preference_stage(a, b).keep and keep_preference_stage(b, a).keep)
