"""What a policy may rest on: a uniform sample of requests the student never learned from."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from benchmarks.fixtures import add_student
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.routing.evidence.calibration_rows import (
    held_out_answers,
    live_answers,
    other_models,
    recent_rows,
)
from loop_pipeline.store.checkpoints import adapter_name
from loop_pipeline.store.database import read, upsert
from loop_pipeline.store.tables import CheckpointRow, GroupMemberRow, TraceRow
from loop_pipeline.training.dataset.splits import split_traces
from loop_pipeline_tests.serving.examples import NEW, OLD, add_answers, add_traces, trace_row

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


def test_live_answers_to_gold_requests_stay_gold(engine: Engine) -> None:
    add_student(engine, NEW)
    rows = [*live(1), *live(2)]
    for row in rows[:2]:
        row["split"] = "gold"
    add_traces(engine, *rows)
    assert live_answers(engine, NEW)["prompt_id"].tolist() == ["q0002"]


def turn(rng: np.random.Generator, number: int) -> list[dict[str, Any]]:
    """Traffic of a week: new requests, repeats of old ones, conversations that go on."""
    rows: list[dict[str, Any]] = []
    for i in range(30):
        about = int(rng.integers(0, 200))
        text = f"customer {about} asks about the delivery of order {about} and nothing else"
        when = LATER + dt.timedelta(days=7 * number, minutes=i)
        pair = live(1_000 * number + i, text=text, when=when, agrees=bool(rng.random() < 0.9))
        drawn = str(
            rng.choice(["train", "validation", "calibration", "gold"], p=[0.4, 0.1, 0.2, 0.3])
        )
        talk = f"c{rng.integers(0, 40)}" if rng.random() < 0.4 else None
        rows += [row | {"split": drawn, "conversation_id": talk} for row in pair]
    return rows


def test_calibration_and_gold_are_disjoint_for_ever(engine: Engine) -> None:
    """What a certificate has rested on is never gold, and gold never becomes such a row."""
    rng = np.random.default_rng(0)
    add_student(engine, NEW)
    add_student(engine, OLD)
    calibration: set[str] = set()
    gold: set[str] = set()
    for number in range(8):
        rows = turn(rng, number)
        add_traces(engine, *rows)
        split_traces(engine)
        known = read(engine, TraceRow).set_index("prompt_id")
        members(engine, *[n for n in known.index if not n.endswith("-s")])
        # Once the champion answers newer traffic, it is held out for the next student.
        held = known[known["split"].isin(["validation", "calibration", "gold"])]
        held = held[held["producer"] == "frontier"]
        for split, part in held.groupby("split"):
            add_answers(engine, OLD, dict.fromkeys(part.index, ("x", True)), split=str(split))
        for student in (NEW, OLD):
            frame = held_out_answers(engine, student)
            keys = frame["dedup_key"]
            calibration |= set(keys[frame["split"] == "calibration"])
            gold |= set(keys[frame["split"] == "gold"])
            assert keys.is_unique
    assert len(calibration) > 20
    assert len(gold) > 20
    assert not calibration & gold


def test_a_request_weighs_as_often_as_it_was_asked_and_conversations_are_units(
    engine: Engine,
) -> None:
    add_student(engine, NEW)
    asked = [trace_row(f"h{i}", "x", text="the same", split="calibration") for i in range(3)]
    talk = {"conversation_id": "talk", "split": "calibration"}
    add_traces(engine, *asked)
    add_traces(engine, *[trace_row(f"t{i}", "x", **talk) for i in range(2)])
    add_traces(engine, *live(1, text="drawn twice"), *live(2, text="drawn twice"))
    held = ("h0", "t0", "t1")
    add_answers(engine, NEW, dict.fromkeys(held, ("x", True)), split="calibration")
    members(engine, "h0", "t0", "t1", "q0001", "q0002")
    rows = held_out_answers(engine, NEW).set_index("prompt_id")
    assert rows["times"].to_dict() == {"h0": 3, "t0": 1, "t1": 1, "q0001": 2}
    units = rows["unit"].to_dict()
    assert units["t0"] == units["t1"] == "conversation talk"
    assert rows["unit"].nunique() == 3


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
