import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from loop_pipeline.labels.quality.model import QualityModel, fit_quality, score_quality
from loop_pipeline.labels.signals import features, tasks, trace_signals
from loop_pipeline.stats.calibration import reliability
from loop_pipeline.stats.sampling import coin
from loop_pipeline_tests.labels.conftest import Desk

REACTIONS = ["accepted", "modified", "rejected", "edit_distance", "no_action"]


def fit(frame, task, verdicts, chance, target: float = 0.95) -> QualityModel:
    return fit_quality(frame, task, verdicts, chance, target_precision=target, delta=0.05).model


@pytest.fixture(scope="module")
def known(desk: Desk) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    traces, feedback, flags, truth = desk
    return features(trace_signals(traces, feedback, flags)), tasks(traces), truth


def _verdicts(good: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"good": good.astype(bool)})


def _reviewed(frame: pd.DataFrame, truth: pd.Series, labels: int, seed: int):
    """Verdicts of about ``labels`` answers; complaints are drawn three times as often."""
    chance = 1.0 + 2.0 * (frame[["modified", "rejected"]].sum(axis=1) > 0)
    chance = chance * labels / chance.sum()
    points = np.array([coin(seed, str(name)) for name in frame.index])
    drawn = chance[points < chance]
    return _verdicts(truth.loc[drawn.index]), drawn


def _ece(score: pd.Series, truth: pd.Series) -> float:
    return reliability(score.to_numpy(), truth.to_numpy(bool))["ece"]


def test_score_is_calibrated_with_200_biased_labels_and_acceptance_is_not(known) -> None:
    frame, task, truth = known
    errors = []
    for seed in range(4):
        verdicts, chance = _reviewed(frame, truth, 200, seed)
        model = fit(frame, task, verdicts, chance)
        errors.append(_ece(model.predict(frame, task), truth))
    assert np.mean(errors) <= 0.05

    seen = frame[frame["no_action"] == 0]
    others = seen[["grounding"]]
    baseline = LogisticRegression(max_iter=1000).fit(others, seen["accepted"] > 0)
    naive = pd.Series(baseline.predict_proba(others)[:, 1], index=seen.index)
    assert _ece(naive, truth.loc[seen.index]) >= 0.25


def test_threshold_keeps_its_promise_on_the_truth(known) -> None:
    frame, task, truth = known
    kept = []
    for seed in range(5):
        verdicts, chance = _reviewed(frame, truth, 1600, seed)
        model = fit(frame, task, verdicts, chance, target=0.8)
        scores = score_quality(model, frame, task, verdicts.iloc[:0]).set_index("prompt_id")
        for name in task.unique():
            above = scores["score"].astype(float) >= scores["threshold"].astype(float)
            if (mine := above & (task == name)).any():
                kept.append(truth[mine].mean())
    assert len(kept) >= 6
    broken = sum(precision < 0.8 for precision in kept)
    assert broken <= len(kept) * 0.05 + 3 * np.sqrt(len(kept) * 0.05 * 0.95)


def test_model_reads_back_and_is_named_by_its_content(known) -> None:
    frame, task, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 1)
    model = fit(frame, task, verdicts, chance)
    again = QualityModel.model_validate_json(model.model_dump_json())
    assert again == fit(frame, task, verdicts, chance)
    assert again.predict(frame, task).equals(model.predict(frame, task))
    assert model.model_copy(update={"n_labels": 9}).sealed().version != model.version
    assert model.figures["auc"] == pytest.approx(
        roc_auc_score(truth, model.predict(frame, task)), abs=0.08
    )


def test_a_score_says_what_it_is_made_of(known) -> None:
    frame, task, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 1)
    model = fit(frame, task, verdicts, chance)
    scores = score_quality(model, frame, task, verdicts.iloc[:0], most=99).set_index("prompt_id")
    rejected = frame.index[frame["rejected"] == 1][0]
    assert scores["because"][rejected]["rejected"] < 0
    # All parts together are the score.
    logit = sum(scores["because"][rejected].values())
    assert model.calibrator.apply(np.array([logit]))[0] == pytest.approx(
        scores["score"][rejected], abs=0.01
    )
    few = score_quality(model, frame, task, verdicts.iloc[:0])["because"]
    assert few.map(len).max() <= 6


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("few", "more are needed"),
        ("one class", "different conversations"),
        ("noise", "hardly tell"),
    ],
)
def test_no_threshold_says_why(known, case: str, says: str) -> None:
    frame, task, truth = known
    verdicts = truth.iloc[: 60 if case == "few" else 300]
    if case == "one class":
        verdicts = verdicts | True
    if case == "noise":
        frame = frame * 0 + np.random.default_rng(0).normal(size=frame.shape)
    model = fit(frame, task, _verdicts(verdicts), None)
    assert says in model.reason
    assert model.quality
    scores = score_quality(model, frame, task, _verdicts(verdicts.iloc[:0]))
    assert scores["threshold"].isna().all()
    assert list(scores["origin"].unique()) == (["model"] if case == "noise" else ["none"])


def test_volunteered_reviews_do_not_count_as_drawn(known) -> None:
    frame, task, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 2)
    praised = pd.Series(True, index=frame.index.difference(chance.index)[:500])
    both = pd.concat([verdicts, _verdicts(praised)])
    assert fit(frame, task, both, chance).n_labels == len(chance)
    with pytest.raises(ValueError, match="not in \\(0, 1\\]"):
        fit(frame, task, verdicts, chance * 0)


def test_a_human_verdict_wins(known) -> None:
    frame, task, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 3)
    model = fit(frame, task, verdicts, chance)
    scores = score_quality(model, frame, task, verdicts).set_index("prompt_id")
    human = scores.loc[verdicts.index]
    assert (human["origin"] == "human").all()
    assert (human["score"].astype(bool) == verdicts["good"]).all()
    assert human["version"].isna().all()
    rest = scores.drop(verdicts.index)
    assert (rest["origin"] == "model").all()
    assert (rest["version"] == model.version).all()
    nothing = score_quality(None, frame, task, verdicts.iloc[:0])
    assert nothing["score"].isna().all()
    assert set(nothing["origin"]) == {"none"}
