import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_auc_score

from loop_pipeline.stats.calibration import cross_calibrated, fit_calibrator, reliability


def _draw(n: int, seed: int, slope: float = 0.5, offset: float = 0.4):
    """Log-odds that are too sure by a factor of two, and shifted."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n)
    return z, rng.random(n) < expit(slope * z + offset)


@pytest.mark.parametrize(("n", "kind"), [(400, "Platt"), (4000, "isotonic")])
def test_an_overconfident_score_becomes_believable(n: int, kind: str) -> None:
    z, good = _draw(n, 0)
    calibrator = fit_calibrator(z, good.astype(float))
    assert calibrator.kind == kind
    new_z, new_good = _draw(50_000, 1)
    before = reliability(expit(new_z), new_good)["ece"]
    after = reliability(calibrator.apply(new_z), new_good)["ece"]
    assert before > 0.09
    assert after < 0.03


@given(st.integers(0, 1000), st.sampled_from([120, 1200]))
@settings(max_examples=20)
def test_calibration_never_changes_the_order(seed: int, n: int) -> None:
    z, good = _draw(n, seed)
    calibrator = fit_calibrator(z, good.astype(float))
    again = type(calibrator).model_validate_json(calibrator.model_dump_json())
    p = again.apply(np.linspace(-8, 8, 500))
    assert (np.diff(p) > 0).all()
    assert 0 <= p[0] < p[-1] <= 1


def test_figures_are_those_of_sklearn() -> None:
    z, good = _draw(500, 2)
    p = expit(z)
    figures = reliability(p, good)
    assert figures["auc"] == pytest.approx(roc_auc_score(good, p))
    assert figures["brier"] == pytest.approx(brier_score_loss(good, p))
    assert sum(row["n"] for row in figures["bins"]) == 500
    assert all(row["low"] <= row["agreement"] <= row["high"] for row in figures["bins"])
    assert reliability(p, np.ones(500, bool))["auc"] == 0.5


@pytest.mark.parametrize("n", [200, 1000, 1500])
def test_the_reported_error_is_no_smaller_than_that_on_fresh_rows(n: int) -> None:
    """A curve that is judged on its own rows reports half of it from 1,000 labels on."""
    own, reported, fresh = [], [], []
    for seed in range(30):
        z, good = _draw(n, seed)
        folds = np.random.default_rng(seed).permutation(n) % 10
        curve = fit_calibrator(z, good.astype(float))
        new_z, new_good = _draw(20_000, 1000 + seed)
        own.append(reliability(curve.apply(z), good)["ece"])
        figures = reliability(cross_calibrated(z, good.astype(float), folds), good)
        reported.append(figures["ece"])
        fresh.append(reliability(curve.apply(new_z), new_good)["ece"])
        assert figures["ece_by_chance"] > 0
    assert np.mean(reported) >= np.mean(fresh)
    if n >= 1000:
        assert np.mean(own) < np.mean(fresh)
