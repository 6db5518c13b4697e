"""Fits T1 to labels, and says how good it is on answers to sources it was not fitted to.

Not here: where the labels come from (``wording_weights.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from loop_pipeline.labels.hallucination.wording_features import design_of
from loop_pipeline.labels.hallucination.wording_score import EVERYWHERE, Detector

MIN_LABELS = 100
MIN_OF_A_KIND = 10
OWN_CALIBRATION = 200
FOLDS = 5
SEED = 0
DRAWS = 1000
PENALTY = 1e-3

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Row(NamedTuple):
    """A labelled answer. Rows with one ``source`` are never on both sides of a fold."""

    source: str
    output: str
    bad: bool
    template: str = EVERYWHERE
    usual: frozenset[str] = frozenset()


class NoSkill(ValueError):
    """These labels do not make a detector. The text says why."""


class Skill(NamedTuple):
    """Balanced accuracy with its 95% bootstrap interval over groups."""

    value: float
    low: float
    high: float

    @property
    def above_chance(self) -> bool:
        """Whether the interval lies above what a coin has."""
        return self.low > 0.5

    def __str__(self) -> str:
        """One line for people; it says so where there is no skill."""
        told = f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"
        return told if self.above_chance else f"no skill: {told} is not above chance (50%)"


def balanced_accuracy(bad: Bools, flagged: Bools, groups: Sequence[str]) -> Skill:
    """Mean of the shares found of either kind; groups are drawn with replacement, 1,000 times."""
    _, place = np.unique(np.array(groups), return_inverse=True)
    kinds = np.stack([bad & flagged, bad, ~bad & ~flagged, ~bad]).astype(float)
    counts = np.stack([np.bincount(place, weights=kind) for kind in kinds])
    size = counts.shape[1]
    drawn = np.random.default_rng(SEED).multinomial(size, np.full(size, 1 / size), DRAWS)
    totals = np.vstack([counts.sum(axis=1), drawn @ counts.T])
    totals = totals[(totals[:, 1] > 0) & (totals[:, 3] > 0)]  # a draw may lack a kind
    values = (totals[:, 0] / totals[:, 1] + totals[:, 2] / totals[:, 3]) / 2
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Skill(float(values[0]), float(low), float(high))


def fit_detector(rows: Sequence[Row], *, trained_on: str, demand_skill: bool = True) -> Detector:
    """Fit weights and calibration, and measure both on folds that were not fitted.

    Args:
        rows: labelled answers.
        trained_on: where the labels come from, for people.
        demand_skill: False: for a benchmark, which has to show what no skill looks like.

    Raises:
        NoSkill: too few labels, or cross-validated no better than chance.
    """
    bad = np.array([row.bad for row in rows], dtype=bool)
    kinds, sources = np.bincount(bad.astype(int), minlength=2), {row.source for row in rows}
    if len(rows) < MIN_LABELS or min(*kinds, len(sources)) < MIN_OF_A_KIND:
        raise NoSkill(
            f"{len(rows)} labelled texts on {len(sources)} sources, {kinds[1]} of them bad: it "
            f"takes {MIN_LABELS} texts, with {MIN_OF_A_KIND} sources and as many of either kind; "
            "review more of them"
        )
    folded = cross_validate(rows)
    if demand_skill and not folded.skill.above_chance:
        raise NoSkill(f"balanced accuracy on {len(rows)} labels, cross-validated: {folded.skill}")
    return Detector(
        trained_on=trained_on,
        weights=_rounded(fit_weights(folded.design, bad)),
        calibration=_calibrations(rows, folded.raw, bad),
        n=len(rows),
        share=round(float(bad.mean()), 4),
        auc=round(float(roc_auc_score(bad, folded.raw)), 4),
        balanced_accuracy=round(folded.skill.value, 4),
        interval=(round(folded.skill.low, 4), round(folded.skill.high, 4)),
    )


class Folded(NamedTuple):
    """Every row by weights and a calibration that saw no row of its source: n rows each."""

    design: Floats
    raw: Floats
    flags: Bools
    skill: Skill


def cross_validate(rows: Sequence[Row]) -> Folded:
    """Score and flag every row out of fold; a fold's calibration comes from folds of the rest."""
    bad, sources = np.array([row.bad for row in rows]), np.array([row.source for row in rows])
    design = design_of([(row.output, row.source, row.usual) for row in rows])
    raw, flags = _out_of_fold(design, bad, sources), np.zeros(len(bad), dtype=bool)
    for fitted, scored in _folds(bad, sources):
        inner = _out_of_fold(design[fitted], bad[fitted], sources[fitted])
        slope, intercept = _platt(inner, bad[fitted])
        flags[scored] = slope * raw[scored] + intercept >= 0
    return Folded(design, raw, flags, balanced_accuracy(bad, flags, [row.source for row in rows]))


def fit_weights(design: Floats, bad: Bools, penalty: float = PENALTY) -> Floats:
    """Logistic regression in which both kinds weigh the same and no feature may lower the risk.

    The sign constraint keeps a weight that noise turned round from rewarding invention.

    Args:
        design: shape (n, k).
        bad: shape (n,).
        penalty: on the squared weights of standardised features.

    Returns:
        Intercept and weights, shape (k + 1,).
    """
    spread = np.where(design.std(axis=0) > 0, design.std(axis=0), 1.0)
    inputs = np.column_stack([np.ones(len(design)), design / spread])
    weigh = np.where(bad, 0.5 / bad.mean(), 0.5 / (1 - bad.mean())) / len(bad)

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = inputs @ weights
        slope = np.concatenate(([0.0], weights[1:]))
        value = (weigh * (np.logaddexp(0, z) - bad * z)).sum() + penalty * slope @ slope
        return value, inputs.T @ (weigh * (1 / (1 + np.exp(-z)) - bad)) + 2 * penalty * slope

    bounds = [(None, None)] + [(0.0, None)] * design.shape[1]
    found = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B")
    return np.concatenate((found.x[:1], found.x[1:] / spread))


def _out_of_fold(design: Floats, bad: Bools, sources: NDArray[np.str_]) -> Floats:
    """Raw score of each row by weights that saw no row of its source, shape (n,)."""
    raw = np.zeros(len(bad))
    for fitted, scored in _folds(bad, sources):
        weights = fit_weights(design[fitted], bad[fitted])
        raw[scored] = design[scored] @ weights[1:] + weights[0]
    return raw


def _folds(
    bad: Bools, sources: NDArray[np.str_]
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    return [*folds.split(bad, bad, sources)]


def _platt(raw: Floats, bad: Bools) -> tuple[float, float]:
    """Slope and intercept from raw scores to log-odds, both kinds weighing the same (Platt)."""
    intercept, slope = fit_weights(raw[:, None], bad, penalty=1e-4)
    return round(float(slope), 4), round(float(intercept), 4)


def _calibrations(rows: Sequence[Row], raw: Floats, bad: Bools) -> dict[str, tuple[float, float]]:
    found = {EVERYWHERE: _platt(raw, bad)}
    for template, count in Counter(row.template for row in rows).items():
        mine = np.array([row.template == template for row in rows])
        rarest = np.bincount(bad[mine].astype(int), minlength=2).min()
        if template != EVERYWHERE and count >= OWN_CALIBRATION and rarest >= MIN_OF_A_KIND:
            found[template] = _platt(raw[mine], bad[mine])
    return found


def _rounded(weights: Floats) -> tuple[float, ...]:
    return tuple(round(float(weight), 3) for weight in weights)
