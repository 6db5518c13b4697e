import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from loop_pipeline.labels.quality import (
    QualityModel,
    calibration,
    fit_quality,
    ppi_mean,
    review_verdicts,
    score_quality,
)
from loop_pipeline.labels.review import draw_reviews, review_probability
from loop_pipeline.labels.signals import signals

PROMISE = {"target_precision": 0.95, "delta": 0.05}


@pytest.fixture(scope="module")
def known(desk):
    traces, feedback, flags, truth = desk
    return signals(traces, feedback, flags), truth


def _reviewed(frame: pd.DataFrame, truth: pd.Series, labels: int, seed: int):
    """Verdicts of about ``labels`` answers drawn as the review queue draws them."""
    rate = labels / len(frame) / review_probability(frame, base_rate=1 / 3).mean() / 3
    drawn = draw_reviews(
        pd.DataFrame({"prompt_id": frame.index}), frame, seed=seed, base_rate=rate, already=set()
    ).set_index("prompt_id")["p_review"]
    return truth.loc[drawn.index], drawn


def _ece(score: pd.Series, truth: pd.Series) -> float:
    return calibration(score.to_numpy(), truth.to_numpy(), weights=np.ones(len(truth)))["ece"]


def test_score_is_calibrated_with_200_biased_labels_and_acceptance_is_not(known) -> None:
    frame, truth = known
    errors = []
    for seed in range(4):
        verdicts, chance = _reviewed(frame, truth, 200, seed)
        model = fit_quality(frame, verdicts, chance, **PROMISE)
        errors.append(_ece(model.predict(frame), truth))
    assert np.mean(errors) <= 0.06

    seen = frame[frame["no_feedback"] == 0]
    others = seen.drop(columns=["accepted", "modified", "rejected", "thumb_down", "edit_distance"])
    baseline = LogisticRegression(max_iter=1000).fit(others, seen["accepted"] > 0)
    naive = pd.Series(baseline.predict_proba(others)[:, 1], index=seen.index)
    assert _ece(naive, truth.loc[seen.index]) >= 0.15


def test_threshold_keeps_its_promise_on_the_truth(known) -> None:
    frame, truth = known
    kept = []
    for seed in range(8):
        verdicts, chance = _reviewed(frame, truth, 800, seed)
        model = fit_quality(frame, verdicts, chance, target_precision=0.8, delta=0.05)
        if model.threshold is not None:
            kept.append(truth[model.predict(frame) >= model.threshold].mean())
    assert len(kept) >= 6
    assert sum(precision < 0.8 for precision in kept) <= 8 * 0.05 + 3 * np.sqrt(8 * 0.05 * 0.95)


def test_model_reads_back_and_is_named_by_its_content(known) -> None:
    frame, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 1)
    model = fit_quality(frame, verdicts, chance, **PROMISE)
    again = QualityModel.model_validate_json(model.model_dump_json())
    assert again == fit_quality(frame, verdicts, chance, **PROMISE)
    assert again.predict(frame).equals(model.predict(frame))
    assert again.model_copy(update={"intercept": 9.0}).sealed().version != model.version
    assert model.auc is not None
    assert model.auc == pytest.approx(roc_auc_score(truth, model.predict(frame)), abs=0.08)


@pytest.mark.parametrize(
    ("case", "says"),
    [("few", "more are needed"), ("one class", "2 are the least"), ("noise", "hardly tell")],
)
def test_no_threshold_says_why(known, case: str, says: str) -> None:
    frame, truth = known
    verdicts = truth.iloc[: 60 if case == "few" else 300]
    if case == "one class":
        verdicts = verdicts | True
    if case == "noise":
        frame = frame * 0 + np.random.default_rng(0).normal(size=frame.shape)
    model = fit_quality(frame, verdicts, None, **PROMISE)
    assert model.threshold is None
    assert says in model.reason
    assert model.quality is not None
    claims = score_quality(model, frame, verdicts.iloc[:0])["origin"].unique()
    assert list(claims) == (["model"] if case == "noise" else ["none"])


def test_volunteered_reviews_do_not_count_as_drawn(known) -> None:
    frame, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 2)
    praised = pd.Series(True, index=frame.index.difference(chance.index)[:500])
    both = pd.concat([verdicts, praised])
    assert fit_quality(frame, both, chance, **PROMISE).n_labels == len(chance)
    with pytest.raises(ValueError, match="not in \\(0, 1\\]"):
        fit_quality(frame, verdicts, chance * 0, **PROMISE)


def test_a_human_verdict_wins(known) -> None:
    frame, truth = known
    verdicts, chance = _reviewed(frame, truth, 300, 3)
    model = fit_quality(frame, verdicts, chance, **PROMISE)
    scores = score_quality(model, frame, verdicts).set_index("prompt_id")
    human = scores.loc[verdicts.index]
    assert (human["origin"] == "human").all()
    assert human["score"].astype(bool).equals(verdicts.rename("score"))
    assert human["version"].isna().all()
    rest = scores.drop(verdicts.index)
    assert (rest["origin"] == "model").all()
    assert (rest["version"] == model.version).all()
    nothing = score_quality(None, frame, verdicts.iloc[:0])
    assert nothing["score"].isna().all()
    assert set(nothing["origin"]) == {"none"}


def test_ppi_covers_the_truth_and_is_narrower_than_labels_alone() -> None:
    rng = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(400):
        proxy = rng.random(2000)
        good = rng.random(2000) < expit((proxy - 0.4) * 8)
        chance = np.where(proxy < 0.3, 0.15, 0.05)
        drawn = rng.random(2000) < chance
        index = pd.RangeIndex(2000).astype(str)
        truth = pd.Series(good, index=index)
        found = ppi_mean(
            truth[drawn], pd.Series(proxy, index=index), pd.Series(chance, index=index)[drawn]
        )
        assert found is not None
        # The estimate is of the process, whose mean is known by integration.
        mean = np.mean(expit((np.linspace(0, 1, 10_001) - 0.4) * 8))
        covered += found.low <= mean <= found.high
        labels = 1.96 * 2 * np.sqrt(mean * (1 - mean) / drawn.sum())
        widths.append((found.high - found.low) / labels)
    assert 0.93 <= covered / 400 <= 0.975
    assert np.mean(widths) < 0.9


def test_few_labels_get_the_exact_interval() -> None:
    found = ppi_mean(pd.Series([True] * 20, index=[str(i) for i in range(20)]), None, None)
    assert found is not None
    assert found.method == "exact binomial"
    assert found.low == pytest.approx(0.025 ** (1 / 20))
    assert ppi_mean(pd.Series([], dtype=bool), None, None) is None


def test_verdicts_majority_then_newest(make_feedback) -> None:
    def review(prompt_id: str, actor: str, value: float) -> dict:
        return {"prompt_id": prompt_id, "kind": "review", "actor": actor, "value": value}

    feedback = make_feedback(
        *(review("majority", actor, value) for actor, value in [("a", 1), ("b", 0), ("c", 1)]),
        *(review("tie", actor, value) for actor, value in [("a", 1), ("b", 0)]),
        *(review("changed", "a", value) for value in (0, 0, 1)),
        {"prompt_id": "user", "kind": "accepted"},
    )
    assert review_verdicts(feedback).to_dict() == {"majority": True, "tie": False, "changed": True}
    assert review_verdicts(make_feedback()).empty
