"""Making a score believable, and measuring how far it can be believed.

Not here: fitting the score itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import expit

from loop_pipeline.stats.binomial import clopper_pearson

# Below this many labels a monotone curve follows the noise; two parameters do not.
ISOTONIC_FROM = 1000
BINS = 10
# Share of the two-parameter curve in the isotonic one: keeps it strictly rising, so that
# calibration never changes the order in which a threshold was tested.
TILT = 0.02


class Calibrator(BaseModel):
    """A strictly rising map from log-odds to P(good)."""

    kind: str = "none"
    slope: float = 1.0
    offset: float = 0.0
    knots: list[tuple[float, float]] = []
    """Log-odds and share of good answers, both rising."""

    def apply(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(good) of log-odds, any shape."""
        smooth = expit(self.slope * z + self.offset)
        if not self.knots:
            return smooth
        places, shares = np.array(self.knots).T
        return (1 - TILT) * np.interp(z, places, shares) + TILT * smooth


def fit_calibrator(
    z: NDArray[np.float64], good: NDArray[np.float64], *, isotonic_from: int = ISOTONIC_FROM
) -> Calibrator:
    """Calibrate out-of-fold log-odds by the ladder of labels.

    Platt's two parameters (Platt 1999) under ``isotonic_from`` labels, from there a monotone curve
    (Zadrozny & Elkan 2002). Both need scores of rows that the score was not fitted on.

    Args:
        z: log-odds, shape (n,).
        good: P(good) by people, shape (n,), 0 to 1.
        isotonic_from: labels from which the curve is used.
    """
    slope, offset = _platt(z, good)
    if len(z) < isotonic_from:
        return Calibrator(kind="Platt", slope=slope, offset=offset)
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(z, good)
    knots = list(zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True))
    return Calibrator(kind="isotonic", slope=slope, offset=offset, knots=knots)


def cross_calibrated(
    z: NDArray[np.float64], good: NDArray[np.float64], folds: NDArray[np.int_]
) -> NDArray[np.float64]:
    """P(good) of each row by a curve that has not seen its fold, shape (n,).

    A curve that is judged on the rows it was fitted to looks better than it is. Its kind is that of
    all rows together, so that what is judged is what is used.

    Args:
        z: log-odds, out of fold as well, shape (n,).
        good: P(good) by people, shape (n,).
        folds: which rows were left out together, shape (n,).
    """
    isotonic_from = 0 if len(z) >= ISOTONIC_FROM else len(z) + 1
    p = np.empty(len(z))
    for fold in np.unique(folds):
        own = folds == fold
        curve = fit_calibrator(z[~own], good[~own], isotonic_from=isotonic_from)
        p[own] = curve.apply(z[own])
    return p


def _platt(z: NDArray[np.float64], good: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of P(good) = expit(slope * z + offset), with a pull to (1, 0)."""
    from scipy.optimize import minimize

    def loss(weights: NDArray[np.float64]) -> float:
        at = weights[0] * z + weights[1]
        return float(np.sum(np.logaddexp(0, at) - good * at) + (weights[0] - 1) ** 2)

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.05, 5), (-10, 10)])
    return float(found.x[0]), float(found.x[1])


def reliability(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64] | None = None,
    n_bins: int = BINS,
) -> dict:
    """How a score relates to the truth.

    Args:
        scores: P(good), shape (n,).
        good: shape (n,).
        weights: of the rows, e.g. inverse review probabilities; None: all the same.
        n_bins: bins of equal numbers of rows.

    Returns:
        ece, ece_by_chance (what a perfect score would show on so few rows), brier, auc (0.5 where
        only one kind of answer is there) and bins: dicts of confidence, agreement (share of good),
        low, high (exact 95% interval of the unweighted share), n.
    """
    from sklearn.metrics import roc_auc_score

    weight = np.ones(len(scores)) if weights is None else weights
    parts = [p for p in np.array_split(np.argsort(scores, kind="stable"), n_bins) if len(p)]
    bins, ece, chance = [], 0.0, 0.0
    for part in parts:
        said = float(np.average(scores[part], weights=weight[part]))
        was = float(np.average(good[part], weights=weight[part]))
        low, high = clopper_pearson(int(good[part].sum()), len(part))
        bins.append(
            {"confidence": said, "agreement": was, "low": low, "high": high, "n": len(part)}
        )
        share = weight[part].sum() / weight.sum()
        ece += share * abs(said - was)
        noise = said * (1 - said) * (weight[part] ** 2).sum() / weight[part].sum() ** 2
        chance += share * np.sqrt(2 / np.pi * max(noise, 0.0))
    both = 0 < good.sum() < len(good)
    return {
        "ece": float(ece),
        "ece_by_chance": float(chance),
        "brier": float(np.average((scores - good) ** 2, weights=weight)),
        "auc": float(roc_auc_score(good, scores, sample_weight=weight)) if both else 0.5,
        "bins": bins,
    }
