"""An answer's confidence features, made in plain Python, are those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.confidence.answer_score import logprob_features, lowest_tenth


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=80))
def test_the_lowest_tenth_is_numpys_quantile_to_the_last_bit(values: list[float]) -> None:
    assert lowest_tenth(values) == float(np.quantile(values, 0.1))


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=80))
def test_features_are_those_of_numpy(values: list[float]) -> None:
    found = logprob_features(values)
    assert found["logprob_sum"] == pytest.approx(float(np.sum(values)), abs=1e-9)
    assert found["logprob_mean"] == pytest.approx(float(np.mean(values)), abs=1e-9)
    assert found["logprob_min"] == min(values)
    assert found["tokens_out"] == len(values)
