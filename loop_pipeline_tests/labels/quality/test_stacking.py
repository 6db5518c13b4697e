import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from loop_pipeline.labels.quality.stacking import (
    POOLED,
    Stack,
    fit_stack,
    fold_numbers,
    out_of_fold,
)


def _tasks(n: int, seed: int):
    """Two tasks whose answers are good for opposite reasons, and a small third like the first."""
    rng = np.random.default_rng(seed)
    index = pd.Index([f"p{i}" for i in range(n)])
    tasks = pd.Series(np.where(rng.random(n) < 0.02, "rare", rng.choice(["a", "b"], n)), index)
    x = pd.DataFrame(rng.normal(size=(n, 3)), index=index, columns=["one", "two", "noise"])
    z = np.where(tasks == "b", 2 * x["two"] - 1, 2 * x["one"] + 1)
    return x, tasks, pd.Series(rng.random(n) < expit(z), index=index)


def test_a_large_task_has_weights_of_its_own_and_a_rare_one_borrows() -> None:
    x, tasks, good = _tasks(900, 0)
    stack = fit_stack(x, tasks, good.astype(float))
    assert set(stack.weights) == {POOLED, "a", "b"}
    assert "rare" not in stack.weights
    new_x, new_tasks, new_good = _tasks(6000, 1)
    ours = stack.log_odds(new_x, new_tasks)
    alike = fit_stack(x, tasks.map(lambda _: "all"), good.astype(float))
    pooled = alike.log_odds(new_x, new_tasks)
    assert roc_auc_score(new_good, ours) > roc_auc_score(new_good, pooled) + 0.05
    assert log_loss(new_good, expit(ours)) < log_loss(new_good, expit(pooled)) - 0.05
    rare = (new_tasks == "rare").to_numpy()
    assert roc_auc_score(new_good[rare], ours[rare]) > 0.6


def test_contributions_add_up_and_unknown_adds_nothing() -> None:
    x, tasks, good = _tasks(500, 2)
    stack = fit_stack(x, tasks, good.astype(float))
    again = Stack.model_validate_json(stack.model_dump_json())
    parts = again.contributions(x, tasks)
    assert parts.sum(axis=1).to_numpy() == pytest.approx(stack.log_odds(x, tasks))
    gap = x.assign(one=np.nan)
    assert (again.contributions(gap, tasks)["one"] == 0).all()
    without = again.contributions(gap.drop(columns="one"), tasks)
    assert without.equals(again.contributions(gap, tasks))


def test_likely_verdicts_count_for_both_sides() -> None:
    x, tasks, good = _tasks(2000, 3)
    sure = fit_stack(x, tasks, good.astype(float))
    unsure = fit_stack(x, tasks, good.map({True: 0.7, False: 0.3}))
    assert np.abs(unsure.log_odds(x, tasks)).mean() < 0.6 * np.abs(sure.log_odds(x, tasks)).mean()
    assert roc_auc_score(good, unsure.log_odds(x, tasks)) == pytest.approx(
        roc_auc_score(good, sure.log_odds(x, tasks)), abs=0.02
    )


def test_a_signal_that_never_varied_has_no_weight() -> None:
    x, tasks, good = _tasks(400, 4)
    stack = fit_stack(x.assign(same=1.0, unknown=np.nan), tasks, good.astype(float))
    at = {name: stack.columns.index(name) for name in ("same", "unknown")}
    assert all(w[i] == 0 for w in stack.weights.values() for i in at.values())


def test_out_of_fold_rows_never_share_a_conversation_with_what_was_fitted() -> None:
    rng = np.random.default_rng(5)
    index = pd.Index([f"p{i}" for i in range(400)])
    talk = pd.Series(np.arange(400) // 4, index=index)
    tasks = pd.Series("t", index=index)
    # Good or bad by conversation, at random; a column tells only which conversation it is.
    good = pd.Series(rng.random(100) < 0.5).reindex(talk.to_numpy()).set_axis(index)
    columns = [f"c{i}" for i in range(100)]
    x = pd.DataFrame(np.eye(100)[talk.to_numpy()], index=index, columns=columns)
    by_row, by_talk = fold_numbers(good), fold_numbers(good, talk)
    assert by_row is not None
    assert by_talk is not None
    leaking = out_of_fold(x, tasks, good.astype(float), by_row)
    honest = out_of_fold(x, tasks, good.astype(float), by_talk)
    assert roc_auc_score(good, leaking) > 0.9
    assert roc_auc_score(good, honest) < 0.65


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60))
def test_folds_keep_clusters_whole_and_both_sides_to_learn_from(rows) -> None:
    index = pd.Index([f"p{i}" for i in range(len(rows))])
    good = pd.Series([side for side, _ in rows], index=index)
    talk = pd.Series([cluster for _, cluster in rows], index=index)
    folds = fold_numbers(good, talk)
    if folds is None:
        return
    assert pd.Series(folds).groupby(talk.to_numpy()).nunique().max() == 1
    for fold in set(folds):
        assert set(good[folds != fold]) == {True, False}


def test_two_bad_answers_of_one_conversation_are_too_few() -> None:
    index = pd.Index([f"p{i}" for i in range(50)])
    good = pd.Series(np.arange(50) >= 2, index=index)
    assert fold_numbers(good) is not None
    assert fold_numbers(good, pd.Series(np.maximum(np.arange(50), 1), index=index)) is None
