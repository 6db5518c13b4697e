"""The curve says what it should on rows whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from loop_pipeline.stats.risk_coverage import risk_coverage, swept_threshold, uncertified_coverage


def test_the_curve_moves_ties_together_and_ends_at_full_coverage():
    curve = risk_coverage(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, False, True, True]))
    assert curve["threshold"].tolist() == [3.0, 2.0, 1.0]
    assert curve["coverage"].tolist() == [0.25, 0.75, 1.0]
    assert curve["agreement"].tolist() == pytest.approx([1.0, 2 / 3, 0.75])


def test_unservable_answers_never_enter_the_curve():
    curve = risk_coverage(np.array([1.0, np.nan]), np.array([True, True]))
    assert curve["coverage"].tolist() == [0.5]
    assert risk_coverage(np.empty(0), np.empty(0, bool)).empty


def test_the_swept_threshold_takes_all_it_can():
    conf, agree = np.arange(100.0), np.arange(100) >= 10
    assert swept_threshold(conf, agree, 0.05) == 6
    assert uncertified_coverage(conf, agree, 0.05) == 0.94
    assert uncertified_coverage(conf, np.zeros(100, bool), 0.05) == 0.0
