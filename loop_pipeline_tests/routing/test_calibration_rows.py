"""What a policy may rest on: a uniform sample of requests the student never learned from."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.routing.calibration_rows import (
    held_out_answers,
    live_answers,
    other_models,
    recent_rows,
)
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import upsert
from loop_pipeline.store.tables import CheckpointRow, GroupMemberRow
from loop_pipeline_tests.serving.examples import NEW, add_answers, add_traces, trace_row

LATER = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
SURE = {"sum": -0.2, "min": -0.1, "p10": -0.1, "mean": -0.1}


def live(number: int, *, agrees=True, shadow=True, text=None, when=LATER, adapter=None, **fields):
    """One request that was decided live: the frontier's row and the cheaper model's."""
    name, text = f"q{number:04d}", text or f"live request {number}"
    common = {"ts": when, "text": text, "split": "train", "logprobs": None, "finish_reason": None}
    student = {"producer": "student", "logprobs": SURE, "cost_usd": 0.001, "finish_reason": "stop"}
    route = {"adapter": adapter or adapter_name(NEW), "shadow": shadow, "shadow_of": name}
    said = "x" if agrees else "y"
    return [
        trace_row(name, "x", **common, cost_usd=0.02, route={"shadow": shadow}),
        trace_row(f"{name}-s", said, route=route, **(common | student | fields)),
    ]


def members(engine: Engine, *names: str) -> None:
    rows = [{"prompt_id": n, "group_id": "g1", "distance": 0.1, "x": 0.0, "y": 0.0} for n in names]
    with engine.begin() as connection:
        upsert(connection, GroupMemberRow, rows)


def test_shadowed_requests_join_the_calibration_rows(engine: Engine) -> None:
    add_student(engine, NEW)
    add_traces(engine, trace_row("h1", "x", split="calibration"))
    add_traces(engine, *live(1), *live(2, agrees=False))
    add_answers(engine, NEW, {"h1": ("x", True)}, split="calibration")
    members(engine, "h1", "q0001", "q0002")
    rows = held_out_answers(engine, NEW).set_index("prompt_id")
    assert rows["split"].to_dict() == dict.fromkeys(("h1", "q0001", "q0002"), "calibration")
    assert rows["agrees"].to_dict() == {"h1": True, "q0001": True, "q0002": False}
    assert rows.loc["q0001", "logprob_sum"] == -0.2
    assert rows.loc["q0001", "request_text"] == "live request 1"
    assert rows.loc["q0001", "cost_usd"] == 0.02


def test_escalations_are_thinned_by_the_same_coin(engine: Engine) -> None:
    add_student(engine, NEW)
    add_traces(engine, *live(1), *live(2, shadow=False))
    assert live_answers(engine, NEW)["prompt_id"].tolist() == ["q0001"]


def test_what_the_student_may_have_learned_is_left_out(engine: Engine) -> None:
    add_student(engine, NEW)
    add_traces(engine, trace_row("old", "x", text="asked before", split="train"))
    add_traces(engine, *live(1, text="asked before"), *live(2))
    assert live_answers(engine, NEW)["prompt_id"].tolist() == ["q0002"]
    with engine.begin() as connection:
        connection.execute(CheckpointRow.__table__.delete())  # pyright: ignore
    assert live_answers(engine, NEW).empty


def test_an_answer_without_log_probabilities_counts_as_escalated(engine: Engine) -> None:
    add_student(engine, NEW)
    add_traces(engine, *live(1, logprobs=None))
    assert live_answers(engine, NEW)["logprob_sum"].isna().all()


def test_a_third_model_is_judged_by_the_request_alone(engine: Engine) -> None:
    add_student(engine, NEW)
    rows, names = [], []
    for i in range(400):
        hard = i % 4 == 0
        text = f"prove the theorem {i}" if hard else f"order status {i}"
        rows += live(i, text=text, agrees=not hard, adapter="mini", logprobs=None)
        names.append(f"q{i:04d}")
    add_traces(engine, *rows, *live(900))
    members(engine, *names, "q0900")
    embedder = Embedder.fit([r["messages"][0]["content"] for r in rows], seed=0)
    [mini] = other_models(engine, embedder)
    assert (mini.name, mini.calls_for) == ("mini", "accepted")
    assert mini.usd_per_request == pytest.approx(0.001)
    assert len(mini.rows) == 400
    by_truth = mini.rows.groupby("agrees")["score"]
    assert by_truth.max()[False] < by_truth.min()[True]
    assert other_models(engine, embedder, besides=["mini"]) == []


def aged(*days: int, split: str = "calibration", group: str = "g1") -> pd.DataFrame:
    """A row each, so many days before a moment."""
    ts = [LATER - dt.timedelta(days=age) for age in days]
    names = [f"{group}{split[0]}{age}" for age in days]
    return pd.DataFrame({"prompt_id": names, "ts": ts, "split": split, "group_id": group})


def test_old_answers_prove_nothing_and_may_still_fit_a_score() -> None:
    rows = pd.concat([aged(0, 30, 100), aged(400, split="validation")])
    kept = recent_rows(rows, 90, {}, now=LATER)
    assert kept["prompt_id"].tolist() == ["g1c0", "g1c30", "g1v400"]
    ended = recent_rows(rows, 90, {}, now=LATER + dt.timedelta(days=900))
    assert len(ended) == 3, "counted from the newest row: a log may end long ago"


def test_a_held_group_is_certified_by_answers_of_after_its_hold_only() -> None:
    rows = pd.concat([aged(0, 5, 10), aged(0, 5, 10, group="g2"), aged(10, split="validation")])
    held = {"g1": LATER - dt.timedelta(days=5)}
    kept = recent_rows(rows, 90, held, now=LATER)
    assert kept["prompt_id"].tolist() == ["g1c0", "g2c0", "g2c5", "g2c10", "g1v10"]


def test_a_clock_that_was_ahead_makes_no_row_old_and_no_certificate_last_longer() -> None:
    rows = aged(-9_000, 1, 2)
    kept = recent_rows(rows, 90, {}, now=LATER)
    assert len(kept) == 3
    assert kept["ts"].max() == pd.Timestamp(LATER)


def test_no_rows_at_all_are_no_rows() -> None:
    assert recent_rows(aged(), 90, {"g1": LATER}).empty
    only = aged(1, split="validation")
    assert recent_rows(only, 90, {"g1": LATER}).equals(only)
