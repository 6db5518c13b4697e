"""The regression under the quality score: signals in, log-odds of a good answer out.

Not here: calibration (``stats/calibration.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.optimize import minimize
from scipy.special import expit

from loop_pipeline.labels.judges import OTHERS, OWN

PENALTY = 0.5  # of the data, on standardised signals; smaller pulls scores to the middle
FOLDS = 10
# A task with so many labels gets weights of its own, pulled to those of all tasks by this factor.
OWN_INTERCEPT_FROM = 20
OWN_WEIGHTS_FROM = 150
SHRINK = 0.5
POOLED = ""
"""Stands for all tasks that have nothing of their own."""


class Stack(BaseModel):
    """Weights a person can read: log-odds a standard deviation of each signal, by task."""

    columns: list[str] = []
    means: list[float] = []
    scales: list[float] = []
    weights: dict[str, list[float]] = {}
    intercepts: dict[str, float] = {}
    judges: dict[str, str] = {}
    """The column in which each judge speaks. A judge that is not here has no say."""

    def contributions(self, features: pd.DataFrame, tasks: pd.Series) -> pd.DataFrame:
        """What each signal adds to the log-odds of each row; the intercept stands under "start".

        A signal that is not known counts as its mean and adds nothing.
        """
        rows = features.reindex(columns=self.columns)
        rows = rows.fillna(pd.Series(self.means, index=self.columns))
        z = (rows.to_numpy(float) - self.means) / self.scales
        own = tasks.loc[features.index]
        parts = np.empty_like(z)
        for task in map(str, own.unique()):
            mine = (own == task).to_numpy()
            parts[mine] = z[mine] * np.array(self.weights.get(task, self.weights[POOLED]))
        start = [self.intercepts.get(task, self.intercepts[POOLED]) for task in map(str, own)]
        found = pd.DataFrame(parts, index=features.index, columns=pd.Index(self.columns))
        found.insert(0, "start", pd.Series(start, index=features.index, dtype=float))
        return found

    def log_odds(self, features: pd.DataFrame, tasks: pd.Series) -> NDArray[np.float64]:
        """Log-odds of a good answer, shape (rows,)."""
        return self.contributions(features, tasks).sum(axis=1).to_numpy()


def fit_stack(features: pd.DataFrame, tasks: pd.Series, p_good: pd.Series) -> Stack:
    """Fit by L2 logistic regression.

    Tasks share the weights; each has an intercept of its own, and with enough labels weights of
    its own that are pulled to the shared ones (Daume 2007, "Frustratingly easy domain adaptation",
    arXiv 0907.1815).

    A judge never gets a negative weight: one that is against people on these reviews is not
    believed to be against them for ever, so it has no say. (In a task with weights of its own a
    judge counts at least as much as in all tasks.)

    Args:
        features: floats by prompt_id, for at least the labelled rows; a null counts as the mean.
        tasks: of at least the labelled rows, by prompt_id.
        p_good: what people say, 0 to 1, by prompt_id. Likely, not sure: it counts for both sides.
    """
    own, rows = tasks.loc[p_good.index], features.loc[p_good.index]
    means, scales = rows.mean().fillna(0.0), rows.std(ddof=0).fillna(0.0)
    taught = (scales > 1e-9).to_numpy()  # a signal that never varied has taught nothing
    scales = scales.where(taught, 1.0)
    z = ((rows.fillna(means) - means) / scales).to_numpy() * taught
    counts = own.value_counts()
    shifted = sorted(map(str, counts.index[counts >= OWN_INTERCEPT_FROM]))
    large = sorted(map(str, counts.index[counts >= OWN_WEIGHTS_FROM])) if len(counts) > 1 else []
    at = {task: (own == task).to_numpy(float)[:, None] for task in shifted}
    design = np.hstack([z, *at.values(), *(SHRINK * z * at[task] for task in large)])
    p = p_good.to_numpy(float)
    sure, side = np.concatenate([p, 1 - p]), np.repeat([True, False], len(p))
    used = sure > 0
    judge = np.array([str(name).startswith((OWN, OTHERS)) for name in rows.columns])
    bounded = np.concatenate([judge, np.zeros(len(shifted), bool), *([judge] * len(large))])
    twice = np.vstack([design, design]).astype(np.float64)
    coef, start = _logistic(twice[used], side[used], sure[used], bounded)
    shared, shifts, extra = np.split(coef, [z.shape[1], z.shape[1] + len(shifted)])
    more = dict(zip(large, extra.reshape(len(large), z.shape[1]), strict=True))
    return Stack(
        columns=list(map(str, rows.columns)),
        means=means.tolist(),
        scales=scales.tolist(),
        weights={POOLED: shared.tolist()}
        | {task: (shared + SHRINK * own_part).tolist() for task, own_part in more.items()},
        intercepts={POOLED: start}
        | {task: start + float(shift) for task, shift in zip(shifted, shifts, strict=True)},
    )


def _logistic(
    design: NDArray[np.float64],
    side: NDArray[np.bool_],
    sure: NDArray[np.float64],
    bounded: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept of an L2 logistic regression; bounded weights are at least 0.

    By scipy's L-BFGS-B: scikit-learn's regression takes no bounds.
    """
    sign = np.where(side, 1.0, -1.0)

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (design @ at[:-1] + at[-1])
        push = -PENALTY * sure * sign * expit(-margin)
        value = PENALTY * sure @ np.logaddexp(0, -margin) + at[:-1] @ at[:-1] / 2
        return float(value), np.append(design.T @ push + at[:-1], push.sum())

    least = [(0.0 if held else None, None) for held in [*bounded, False]]
    found = minimize(loss, np.zeros(len(least)), jac=True, method="L-BFGS-B", bounds=least)
    return found.x[:-1], float(found.x[-1])


def fold_numbers(
    good: pd.Series, clusters: pd.Series | None = None, seed: int = 0
) -> NDArray[np.int_] | None:
    """The fold of each labelled row. Rows of one cluster share one; bad ones are spread evenly.

    Args:
        good: verdicts, by prompt_id.
        clusters: conversation or the like, by prompt_id; None: each row by itself.
        seed: of the shuffle.

    Returns:
        Numbers from 0, at most ``FOLDS`` different; None if leaving a fold out would leave only
        good or only bad answers to learn from.
    """
    named = pd.Series(good.index, good.index) if clusters is None else clusters.loc[good.index]
    spoilt = good.groupby(named.to_numpy()).all()  # clusters with a bad answer come first
    dealt = spoilt.sample(frac=1, random_state=seed).sort_values(kind="stable")
    folds = min(FOLDS, int((~spoilt).sum()), max(2, int(spoilt.sum())))
    if folds < 2:
        return None
    number = pd.Series(np.arange(len(dealt)) % folds, index=dealt.index)
    found = number.loc[named].to_numpy()
    sides = [good.to_numpy()[found != fold] for fold in range(folds)]
    return found if all(0 < side.sum() < len(side) for side in sides) else None


def out_of_fold(
    features: pd.DataFrame, tasks: pd.Series, p_good: pd.Series, folds: NDArray[np.int_]
) -> NDArray[np.float64]:
    """Log-odds of each labelled row by a fit that has not seen its fold.

    Args:
        features: as for ``fit_stack``.
        tasks: as for ``fit_stack``.
        p_good: as for ``fit_stack``.
        folds: of the labelled rows, as ``fold_numbers`` gives them.
    """
    z = np.empty(len(p_good))
    for fold in np.unique(folds):
        stack = fit_stack(features, tasks, p_good[folds != fold])
        left = p_good.index[folds == fold]
        z[folds == fold] = stack.log_odds(features.loc[left], tasks)
    return z
