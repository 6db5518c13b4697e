"""The alarm on simulated streams whose truth is known. More of them: ``benchmarks/risk.py``."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loop_pipeline.monitoring.risk import ALARM, CALM_ROWS, risk_of
from loop_pipeline.stats.e_process import restarted_e_values

STREAMS = 400
GOOD = 2_000


def alarms(share: float, rows: int, seed: int, good: int = 0) -> NDArray[np.float64]:
    """The row after ``good`` ones (3% disagree) at which each stream rings; inf: it does not."""
    rng = np.random.default_rng(seed)
    before = rng.random((STREAMS, good)) < 0.03
    values = np.concatenate([before, rng.random((STREAMS, rows)) < share], axis=1)
    rings = restarted_e_values(values, 0.05)[:, good:] >= ALARM
    return np.where(rings.any(axis=1), rings.argmax(axis=1) + 1, np.inf)


def three_sd(share: float) -> float:
    return 3 * float(np.sqrt(share * (1 - share) / STREAMS))


def test_ten_per_cent_after_two_thousand_good_rows_is_found_within_550() -> None:
    found = alarms(0.10, 700, seed=1, good=GOOD)
    assert (found <= 550).mean() >= 0.9 - three_sd(0.9)
    assert (found <= 700).mean() >= 0.9


@pytest.mark.parametrize(("share", "most"), [(0.04, 0.015), (0.05, 0.06)])
def test_within_four_thousand_rows_it_rings_falsely_at_most_so_often(
    share: float, most: float
) -> None:
    assert np.isfinite(alarms(share, 4_000, seed=2)).mean() <= most + three_sd(most)


def test_a_unit_that_is_counted_once_keeps_the_level_and_whole_units_would_not() -> None:
    """Conversations of five, latent correlation 0.6: their rows are no evidence of their own."""
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((STREAMS, 800, 1))
    own = rng.standard_normal((STREAMS, 800, 5))
    latent = np.sqrt(0.6) * shared + np.sqrt(0.4) * own
    wrong = latent < -1.6449
    first, whole = wrong[:, :, 0], wrong.reshape(STREAMS, -1)
    ringing = [(restarted_e_values(x, 0.05) >= ALARM).any(axis=1).mean() for x in (first, whole)]
    assert ringing[0] <= 0.02 + three_sd(0.02)
    assert ringing[1] > 3 * 0.06


def test_what_it_says_and_when_it_is_calm() -> None:
    nothing = risk_of(0, [], 0.05)
    assert (nothing.alarm, nothing.calm, nothing.evidence) == (False, False, 1.0)
    good = risk_of(CALM_ROWS, [False] * CALM_ROWS, 0.05)
    assert (good.alarm, good.calm) == (False, True)
    doubtful = risk_of(400, [False] * 100 + [*[False] * 17, True] * 16 + [False] * 12, 0.05)
    assert (doubtful.alarm, doubtful.calm) == (False, False)
    bad = risk_of(520, [False] * 500 + [True] * 20, 0.05)
    assert bad.alarm
    assert "20 of the last 500 served answers that were checked disagree" in bad.sentence(0.05)
    assert "promised were at most 5.0%" in bad.sentence(0.05)
    late = risk_of(400, [False] * 384 + [True] * 16, 0.05)
    assert late.alarm, "a breakdown is found wherever it falls between two processes"
    every = risk_of(50, [True] * 50, 0.3)
    assert every.alarm
