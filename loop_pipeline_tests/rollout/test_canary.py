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
    SHADOW_ROWS,
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
        (outcomes(0, 0, 0), "wait", "no live request was answered by frontier, champion and"),
        (outcomes(1, 1, 3), "wait", "20 more paired requests needed in stage 1%"),
        (outcomes(20, 22, 99), "wait", "not yet shown to be no worse by 3 points"),
        (outcomes(10, 30, 900), "advance", "no worse by 3 points: 940 paired"),
        (outcomes(60, 10, 430), "stop", "the challenger alone disagrees on 60, the champion on 10"),
        (outcomes(12, 0, 3), "stop", "disagrees more often"),
        (outcomes(10, 30, 900, NOW - dt.timedelta(1)), "wait", "25 more paired requests"),
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


LOOK = 25  # rows between two looks of the sensor


def trial(rng: np.random.Generator, up: float, down: float, rows: int) -> tuple[str, int]:
    """A whole rollout on a stream of live rows: how it ends, and after how many."""
    drawn = rng.random(rows)
    frame = pd.DataFrame(
        {
            "challenger_disagrees": drawn < up,
            "champion_disagrees": (drawn >= up) & (drawn < up + down),
            "ts": NOW + pd.to_timedelta(np.arange(rows), unit="s"),
        }
    )
    stage, since = "shadow", NOW
    for seen in range(LOOK, rows + 1, LOOK):
        due = step_due(frame.head(seen), stage, since)
        if due.action == "stop":
            return "stopped", seen
        if due.action == "advance":
            following = next_stage(stage)
            if following is None:
                return "promoted", seen
            stage, since = following, NOW + pd.to_timedelta(seen, unit="s")
    return "undecided", rows


def test_a_challenger_worse_by_ten_points_is_hardly_ever_promoted() -> None:
    rng = np.random.default_rng(3)
    ends = [trial(rng, 0.13, 0.03, 1_300) for _ in range(300)]
    assert [end for end, _ in ends].count("promoted") <= 3
    assert np.median([rows for end, rows in ends if end == "stopped"]) <= 200


@pytest.mark.parametrize("discordant", [0.04, 0.07])
def test_an_equal_challenger_is_promoted_within_thirteen_hundred_live_rows(
    discordant: float,
) -> None:
    rng = np.random.default_rng(4)
    ends = [trial(rng, discordant / 2, discordant / 2, 1_300) for _ in range(100)]
    assert [end for end, _ in ends].count("promoted") >= 90 - 3 * np.sqrt(100 * 0.9 * 0.1)


def test_what_was_once_proven_stays_so_and_a_batch_cannot_hide_it() -> None:
    good, bad = outcomes(0, 0, 400), outcomes(9, 0, 40, NOW + dt.timedelta(1))
    both = pd.concat([good, bad], ignore_index=True)
    assert step_due(both, "1%", NOW).safe == step_due(good, "1%", NOW).safe >= EVIDENCE
    late = outcomes(0, 60, 900, NOW + dt.timedelta(1))
    worst_first = pd.concat([outcomes(30, 0, 30), late], ignore_index=True)
    assert step_due(worst_first, "shadow", NOW).action == "stop"
    assert step_due(outcomes(0, 0, SHADOW_ROWS - 1), "shadow", NOW).action == "wait"
