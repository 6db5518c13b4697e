"""The steps of a rollout on simulated streams whose truth is known."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from loop_pipeline.rollout.canary import (
    EVIDENCE,
    RULED_OUT,
    STAGES,
    TOLERATED,
    next_stage,
    step_due,
)
from loop_pipeline.stats.e_process import e_value

STREAMS = 500
NOW = pd.Timestamp("2026-09-01", tz="UTC")


def first_crossing(up: float, down: float, rows: int, bound: float) -> NDArray[np.float64]:
    """Row at which each of 500 streams has evidence of 20, looked at after every row; inf: never.

    up, down: how often a value is 1 and -1.
    """
    rng = np.random.default_rng(7)
    crossed = np.full(STREAMS, np.inf)
    for i in range(STREAMS):
        drawn = rng.random(rows)
        ups, downs = np.cumsum(drawn < up), np.cumsum((drawn >= up) & (drawn < up + down))
        high = e_value(ups, downs, np.arange(1, rows + 1), bound) >= EVIDENCE
        crossed[i] = high.argmax() + 1 if high.any() else np.inf
    return crossed


@pytest.mark.parametrize("discordant", [0.02, 0.10])
def test_an_equal_canary_is_hardly_ever_stopped_in_ten_thousand_looks(discordant: float) -> None:
    crossed = first_crossing(discordant / 2, discordant / 2, 10_000, TOLERATED)
    assert np.isfinite(crossed).mean() <= 0.05


def test_at_the_edge_of_what_is_tolerated_the_level_holds() -> None:
    up, down = 0.05 + TOLERATED / 2, 0.05 - TOLERATED / 2
    assert np.isfinite(first_crossing(up, down, 10_000, TOLERATED)).mean() <= 0.05
    worse_by_three = first_crossing(0.035, 0.065, 10_000, -RULED_OUT)
    assert np.isfinite(worse_by_three).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / STREAMS)


@pytest.mark.parametrize(("discordant", "rows"), [(0.06, 600), (0.10, 1000), (0.20, 2000)])
def test_a_canary_worse_by_five_points_is_stopped(discordant: float, rows: int) -> None:
    up, down = (discordant + 0.05) / 2, (discordant - 0.05) / 2
    assert (first_crossing(up, down, rows, TOLERATED) <= rows).mean() >= 0.90


@pytest.mark.parametrize(("discordant", "rows"), [(0.02, 600), (0.06, 1300), (0.10, 2200)])
def test_an_equal_canary_is_let_through(discordant: float, rows: int) -> None:
    crossed = first_crossing(discordant / 2, discordant / 2, rows, -RULED_OUT)
    assert (crossed <= rows).mean() >= 0.90


def test_evidence_has_mean_one_where_the_claim_just_holds() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([1, -1, 0], p=[0.055, 0.045, 0.9], size=(20_000, 30))
    ups, downs = (values == 1).sum(axis=1), (values == -1).sum(axis=1)
    assert e_value(ups, downs, 30, 0.01).mean() == pytest.approx(1, abs=0.05)
    assert float(e_value(0, 0, 0, 0.01)) == 1
    assert np.isfinite(e_value(10**6, 0, 10**6, 0.01))


def outcomes(worse: int, better: int, same: int, when: pd.Timestamp = NOW) -> pd.DataFrame:
    pairs = [(True, False)] * worse + [(False, True)] * better + [(False, False)] * same
    frame = pd.DataFrame(pairs, columns=["challenger_disagrees", "champion_disagrees"])
    return frame.assign(ts=when)


@pytest.mark.parametrize(
    ("rows", "action", "reason"),
    [
        (outcomes(0, 0, 0), "wait", "100 more paired requests needed in stage 1%"),
        (outcomes(20, 22, 99), "wait", "not yet shown to be no worse by 3 points"),
        (outcomes(10, 30, 900), "advance", "no worse by 3 points: 940 paired"),
        (outcomes(60, 10, 430), "stop", "the challenger alone disagrees on 60, the champion on 10"),
        (outcomes(12, 0, 3), "stop", "disagrees more often"),
        (outcomes(10, 30, 900, NOW - dt.timedelta(1)), "wait", "100 more paired requests"),
    ],
)
def test_the_verdict_says_what_and_why(rows: pd.DataFrame, action: str, reason: str) -> None:
    due = step_due(rows, "1%", NOW)
    assert (due.action, due.rows) == (action, len(rows))
    assert reason in due.reason
    figures: dict[str, Any] = due.figures()
    assert figures["harm"] == due.harm


def test_the_stages_come_in_order_and_end() -> None:
    path, stage = [], "shadow"
    while stage is not None:
        path.append(stage)
        stage = next_stage(stage)
    assert path == ["shadow", "1%", "5%", "25%"]
    assert list(STAGES.values()) == sorted(STAGES.values())
