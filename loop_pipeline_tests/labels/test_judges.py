"""Judges of known skill: each is heard for what it is worth, the bad ones not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.labels.judges import (
    LEAST_REVIEWED,
    MOST_COLUMNS,
    MOST_NAMES,
    OTHERS,
    judge_features,
    judges_agreement,
    judges_columns,
    opinions,
)
from loop_pipeline.labels.quality.stacking import POOLED, Stack, fit_stack

# Four honest judges, and two that say the opposite of what is so.
SKILLS = (0.9, 0.85, 0.8, 0.75, 0.15, 0.2)


def _world(
    n: int, seed: int, skills: tuple[float, ...] = SKILLS, asked: float = 0.7
) -> tuple[pd.DataFrame, pd.Series]:
    """Feedback of judges, each asked about a share of the answers; and which answers are good."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"s{seed}-{i}" for i in range(n)], dtype=object)
    good = rng.random(n) < 0.6
    parts = []
    for number, skill in enumerate(skills):
        said = np.where(rng.random(n) < skill, good, ~good).astype(float)
        mine = rng.random(n) < asked
        columns = {"prompt_id": ids[mine], "actor": f"m{number}", "value": said[mine]}
        parts.append(pd.DataFrame(columns).assign(kind="judge"))
    return pd.concat(parts, ignore_index=True), pd.Series(good, index=ids)


def _fit(feedback: pd.DataFrame, good: pd.Series, tasks: pd.Series | None = None) -> Stack:
    said = opinions(feedback)
    columns = judges_columns(said, good.index)
    one = pd.Series("t", index=good.index) if tasks is None else tasks
    known = judge_features(said, columns, good.index)
    return fit_stack(known, one, good.astype(float)).model_copy(update={"judges": columns})


def _right(stack: Stack, feedback: pd.DataFrame, good: pd.Series) -> float:
    heard = judge_features(opinions(feedback), stack.judges, good.index)
    odds = stack.log_odds(heard, pd.Series("t", index=good.index))
    return float(((odds > 0) == good.to_numpy()).mean())


def test_six_judges_of_which_two_are_against_people() -> None:
    feedback, good = _world(400, 1)
    stack = _fit(feedback, good)
    weights = dict(zip(stack.columns, stack.weights[POOLED], strict=True))
    assert weights["judge m4"] == weights["judge m5"] == 0
    honest = [weights[f"judge m{i}"] for i in range(4)]
    assert min(honest) > 0.3
    new, truth = _world(4000, 2)
    assert _right(stack, new, truth) >= 0.87
    # What the loop did before: one column, the mean of all.
    mean = feedback.groupby("prompt_id")["value"].mean().reindex(good.index).to_frame("mean")
    alone = pd.Series("t", index=good.index)
    before = fit_stack(mean, alone, good.astype(float))
    seen = new.groupby("prompt_id")["value"].mean().reindex(truth.index).to_frame("mean")
    odds = before.log_odds(seen, pd.Series("t", index=truth.index))
    assert ((odds > 0) == truth.to_numpy()).mean() <= 0.75


def test_a_bad_judge_that_turns_its_coat_changes_nothing() -> None:
    stack = _fit(*_world(400, 1))
    new, truth = _world(4000, 2)
    turned = new.assign(value=new["value"].where(~new["actor"].isin(["m4", "m5"]), 0.5))
    assert _right(stack, turned, truth) == _right(stack, new, truth)


def test_no_judge_has_a_negative_weight_in_any_task() -> None:
    feedback, good = _world(900, 3)
    tasks = pd.Series(np.where(np.arange(900) % 2, "a", "b"), index=good.index)
    against = feedback["actor"].eq("m0") & feedback["prompt_id"].map(tasks).eq("b")
    feedback["value"] = feedback["value"].where(~against, 1 - feedback["value"])
    stack = _fit(feedback, good, tasks)
    assert set(stack.weights) == {POOLED, "a", "b"}
    assert min(min(weights) for weights in stack.weights.values()) >= 0
    other = fit_stack(  # only judges are held so
        pd.DataFrame({"length": -good.astype(float)}), tasks, good.astype(float)
    )
    assert other.weights[POOLED][0] < 0


def test_a_judge_of_later_has_no_say_and_a_missing_one_adds_nothing() -> None:
    stack = _fit(*_world(400, 1))
    new, truth = _world(1000, 4)
    stranger = new[new["actor"] == "m0"].assign(actor="m9", value=0.0)
    assert _right(stack, pd.concat([new, stranger]), truth) == _right(stack, new, truth)
    gone = judge_features(opinions(new[new["actor"] != "m0"]), stack.judges, truth.index)
    parts = stack.contributions(gone, pd.Series("t", index=truth.index))
    assert (parts["judge m0"] == 0).all()
    nobody = judge_features(opinions(new.iloc[:0]), stack.judges, truth.index)
    assert nobody.isna().all().all()
    assert set(nobody) == set(stack.columns)


def test_many_judges_share_a_column_and_their_names_do_not_move_them() -> None:
    feedback, good = _world(300, 5, skills=(0.8,) * 60, asked=0.4)
    said = opinions(feedback)
    columns = judges_columns(said, good.index)
    own = {name for name in columns.values() if name != OTHERS}
    assert len(own) == MOST_COLUMNS
    assert len(columns) == 60
    shuffled = opinions(feedback.sample(frac=1, random_state=1))
    assert judges_columns(shuffled, good.index) == columns
    known = judge_features(said, columns, good.index)
    assert known.shape == (300, MOST_COLUMNS + 1)
    assert _right(_fit(feedback, good), *_world(2000, 6, skills=(0.8,) * 60, asked=0.4)) > 0.95


def test_a_name_for_each_answer_explodes_nothing() -> None:
    feedback, good = _world(3000, 7, skills=(0.9,), asked=1.0)
    feedback["actor"] = "run " + feedback["prompt_id"]
    columns = judges_columns(opinions(feedback), good.index)
    assert {*columns.values()} == {OTHERS}
    assert len(columns) == MOST_NAMES
    assert judge_features(opinions(feedback), columns, good.index).shape == (3000, 1)


@pytest.mark.parametrize("reviewed", [LEAST_REVIEWED - 1, LEAST_REVIEWED])
def test_few_reviews_give_no_column_of_its_own(reviewed: int) -> None:
    feedback, good = _world(100, 8, skills=(0.9, 0.8), asked=1.0)
    new = (feedback["actor"] == "m1") & ~feedback["prompt_id"].isin(good.index[:reviewed])
    columns = judges_columns(opinions(feedback[~new]), good.index)
    own = reviewed == LEAST_REVIEWED
    assert columns == {"m0": "judge m0", "m1": "judge m1" if own else OTHERS}


def test_nobody_signed_and_nobody_judged() -> None:
    feedback, good = _world(100, 9, skills=(0.9,))
    unsigned = opinions(feedback.assign(actor=None))
    assert judges_columns(unsigned, good.index) == {"": "judge without a name"}
    nothing = opinions(feedback.iloc[:0])
    assert judges_columns(nothing, good.index) == {}
    assert judge_features(nothing, {}, good.index).shape == (100, 0)


def test_agreement_with_people_is_by_judge_and_weighed_by_the_draw() -> None:
    feedback, good = _world(2000, 10, skills=(0.9, 0.2), asked=1.0)
    said, units = opinions(feedback), pd.Series(good.index, index=good.index)
    columns = judges_columns(said, good.index)
    fine, bad = judges_agreement(said, good, None, units, columns)
    assert (fine.judge, fine.column) == ("m0", "judge m0")
    assert fine.with_people.kappa == pytest.approx(0.79, abs=0.05)
    assert bad.with_people.high < 0
    # Drawn three times as often where the judge says bad: the same kappa, less sure.
    doubted = feedback[feedback["actor"] == "m0"].set_index("prompt_id")["value"] == 0
    chance = pd.Series(np.where(doubted.reindex(good.index), 0.6, 0.2), index=good.index)
    drawn = good[np.random.default_rng(1).random(2000) < chance]
    again = judges_agreement(said, drawn, chance, units, columns)[0].with_people
    assert again.low <= 0.79 <= again.high
    assert again.first_says_yes == pytest.approx(0.6, abs=0.06)
    assert again.effective < again.rows
