"""Only what no router chose compares models, and the truth lies in the interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.groups.best_model import best_models
from loop_pipeline.groups.model_comparison import (
    LOGGED,
    RANDOM,
    REPLAYED,
    frontier_usd_by_group,
    group_statistics,
    held_out_rows,
    inferred_verdicts,
    logged_rows,
)
from loop_pipeline.labels.quality.inputs import Reviewed

LABEL = {"kind": "label", "labels": ["a", "b"]}
NOBODY = Reviewed(pd.Series(dtype=bool), None, None)
NO_FLAGS = pd.DataFrame({"prompt_id": [], "flag": []})


def traces(n: int = 400, **more) -> pd.DataFrame:
    base = pd.DataFrame({"prompt_id": [f"p{i:04d}" for i in range(n)]}).assign(
        producer="frontier",
        model="big",
        output="a",
        cost_usd=0.01,
        latency_ms=np.arange(n, dtype=float),
    )
    base["route"] = pd.Series([None] * n, dtype=object)
    base["contract"] = pd.Series([LABEL] * n, dtype=object)
    return base.assign(**more)


def members(frame: pd.DataFrame, groups: int = 1) -> pd.DataFrame:
    ids = frame["prompt_id"].tolist()
    return pd.DataFrame({"prompt_id": ids, "group_id": [f"g{i % groups}" for i in range(len(ids))]})


def student_answers(frame: pd.DataFrame, right: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"prompt_id": frame["prompt_id"], "agrees": right, "latency_ms": 1.0, "output": "a"}
    )


def test_latency_cost_flags_and_samples_are_those_of_the_rows() -> None:
    frame = traces(200)
    flags = pd.DataFrame({"prompt_id": frame["prompt_id"], "flag": [i < 20 for i in range(200)]})
    [row] = group_statistics(logged_rows(frame, members(frame)), flags, NOBODY).to_dict("records")
    assert (row["sample"], row["comparable"], row["requests"]) == (LOGGED, False, 200)
    assert row["latency_p50_ms"] == pytest.approx(99.5)
    assert row["latency_p99_ms"] == pytest.approx(197.01)
    assert row["flagged_share"] == 0.1
    assert row["cost_per_request"] == pytest.approx(0.01)
    assert row["quality"] is None


def test_a_shadowed_request_compares_all_who_answered_it() -> None:
    frame = traces(4)
    routes: list[Any] = [
        {"arm": "student"},
        {"shadow_of": "p0000", "shadow": True},
        {"arm": "frontier", "shadow": True},
        {"shadow_of": "p0002", "adapter": "s"},
    ]
    frame["route"] = pd.Series(routes, dtype=object)
    frame["producer"] = ["student", "frontier", "frontier", "student"]
    frame["model"] = ["s", "big", "big", "s"]
    frame["output"] = ["b", "a", "a", "A"]
    known = members(frame[frame["producer"] == "frontier"])
    stats = group_statistics(logged_rows(frame, known), NO_FLAGS, NOBODY)
    fair = stats[stats["comparable"]].set_index("model")
    assert fair["requests"].to_dict() == {"big": 2, "s": 2}
    assert fair.loc["s", "agreement"] == 0.5
    assert set(fair["sample"]) == {RANDOM}


def test_routed_requests_of_a_replay_compare_nothing() -> None:
    frame = traces(100)
    frame["route"] = pd.Series([None if i < 60 else {"arm": "frontier"} for i in range(100)])
    answers = student_answers(frame, np.arange(100) % 10 > 0)
    known = members(frame)
    rows = pd.concat(
        [
            logged_rows(frame, known),
            held_out_rows(answers, frame, known, model="s", usd_per_request=0.001),
        ]
    )
    stats = group_statistics(rows, NO_FLAGS, NOBODY, student="s").set_index(["model", "sample"])
    assert stats["requests"].to_dict() == {
        ("big", LOGGED): 100,
        ("big", RANDOM): 60,
        ("s", REPLAYED): 100,
        ("s", RANDOM): 60,
    }
    assert stats.loc[("s", REPLAYED), "agreement"] == 0.9
    assert not stats.loc[("s", REPLAYED), "comparable"]


def test_quality_by_ppi_holds_the_truth_and_is_narrower_than_reviews_alone() -> None:
    covered, narrower = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frame = traces(1_000)
        p = rng.beta(6, 1.5, len(frame))
        good = pd.Series(rng.random(len(frame)) < p, index=frame["prompt_id"])
        proxy = pd.Series(p, index=frame["prompt_id"])
        chance = pd.Series(np.where(p < 0.7, 0.3, 0.1), index=frame["prompt_id"])
        drawn = good[rng.random(len(frame)) < chance.to_numpy()]
        rows = logged_rows(frame, members(frame))
        with_score = group_statistics(rows, NO_FLAGS, Reviewed(drawn, proxy, chance)).iloc[0]
        alone = group_statistics(rows, NO_FLAGS, Reviewed(drawn, None, chance)).iloc[0]
        covered += with_score["quality_low"] <= good.mean() <= with_score["quality_high"]
        narrower.append(
            (with_score["quality_high"] - with_score["quality_low"])
            / (alone["quality_high"] - alone["quality_low"])
        )
    assert covered >= 33  # 95% of 40, less three standard deviations
    assert np.mean(narrower) < 0.9


def test_few_reviews_give_the_exact_interval() -> None:
    frame = traces(400)
    good = pd.Series(True, index=frame["prompt_id"][:30])
    proxy = pd.Series(0.9, index=frame["prompt_id"])
    rows = logged_rows(frame, members(frame))
    row = group_statistics(rows, NO_FLAGS, Reviewed(good, proxy, None)).iloc[0]
    assert (row["quality_method"], row["reviews"]) == ("exact binomial", 30)
    assert row["quality_low"] == pytest.approx(0.025 ** (1 / 30))


def test_a_students_verdicts_follow_from_the_frontiers_only_where_one_answer_is_right() -> None:
    frame = traces(4)
    frame["contract"] = pd.Series([LABEL, LABEL, LABEL, None], dtype=object)
    good = pd.Series([True, True, False, True], index=frame["prompt_id"])
    answers = student_answers(frame, np.array([True, False, True, True]))
    assert inferred_verdicts(answers, frame, good) == {
        "p0000": True,
        "p0001": False,
        "p0002": False,
    }


@pytest.mark.parametrize(("share", "best", "sure"), [(0.6, "big", True), (0.99, "s", False)])
def test_the_best_model_is_named_with_whether_it_is_more_than_noise(share, best, sure) -> None:
    frame = traces(500)
    good = pd.Series(True, index=frame["prompt_id"][::2])
    answers = student_answers(frame, np.arange(500) % 100 < 100 * share)
    known = members(frame)
    rows = pd.concat(
        [
            logged_rows(frame, known),
            held_out_rows(answers, frame, known, model="s", usd_per_request=0.001),
        ]
    )
    inferred = inferred_verdicts(answers, frame, good)
    stats = group_statistics(
        rows, NO_FLAGS, Reviewed(good, None, None), student="s", inferred=inferred
    )
    names = pd.DataFrame({"group_id": ["g0"], "name": ["orders"]})
    [row] = best_models(stats, names).to_dict("records")
    assert (row["group"], row["best"], row["more_than_noise"]) == ("orders", best, sure)
    assert row["low"] <= row["quality"] <= row["high"]
    assert ("s is cheaper" in row["note"]) is not sure


def test_what_is_missing_for_a_comparison_is_said() -> None:
    frame = traces(50)
    names = pd.DataFrame({"group_id": ["g0"], "name": ["orders"]})
    stats = group_statistics(logged_rows(frame, members(frame)), NO_FLAGS, NOBODY)
    assert "no requests yet that two models answered" in best_models(stats, names)["note"][0]
    rows = held_out_rows(
        student_answers(frame, np.ones(50, bool)),
        frame,
        members(frame),
        model="s",
        usd_per_request=0.001,
    )
    stats = group_statistics(rows, NO_FLAGS, NOBODY, student="s")
    assert best_models(stats, names)["note"][0] == "no reviews tell the quality of big, s"


def test_a_group_without_a_price_has_none_and_others_average_what_is_known() -> None:
    traces = pd.DataFrame({"prompt_id": list("abcd"), "cost_usd": [0.1, None, None, 0.3]})
    members = pd.DataFrame({"prompt_id": list("abcd"), "group_id": list("ggha")})
    assert frontier_usd_by_group(traces, members) == {"g": 0.1, "a": 0.3}


def test_the_frontiers_own_line_says_how_often_it_agrees_with_itself() -> None:
    frame = traces(20)
    frame["route"] = pd.Series([{"shadow": True}] * 20, dtype=object)
    again = traces(20, output=["b" if i < 4 else "a" for i in range(20)])
    again["route"] = pd.Series(
        [{"shadow": True, "again": True, "shadow_of": name} for name in frame["prompt_id"]],
        dtype=object,
    )
    again["prompt_id"] = again["prompt_id"] + "~again"
    both = pd.concat([frame, again], ignore_index=True)
    rows = group_statistics(logged_rows(both, members(frame)), NO_FLAGS, NOBODY)
    own = rows[(rows["model"] == "big") & (rows["sample"] == RANDOM)].iloc[0]
    assert own["agreement"] == pytest.approx(0.8)
    assert own["requests"] == 20, "the second answer is no other request"
