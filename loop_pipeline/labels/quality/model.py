"""P(good) of every answer, fitted to randomly drawn reviews and to nothing else.

Not here: users' reactions as labels. They are signals: they come from who is unhappy or in a hurry.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel

from loop_pipeline.labels.quality.stacking import (
    POOLED,
    Stack,
    fit_stack,
    fold_numbers,
    out_of_fold,
)
from loop_pipeline.labels.quality.thresholds import (
    Promise,
    promises,
    threshold_of,
    too_few,
)
from loop_pipeline.labels.reviews.draw import MIN_LABELS
from loop_pipeline.stats.calibration import (
    Calibrator,
    cross_calibrated,
    fit_calibrator,
    reliability,
)
from loop_pipeline.stats.ppi import MeanQuality, ppi_mean, review_weights
from loop_pipeline.stats.sampling import uniform_sample


class QualityModel(BaseModel):
    """A fitted score: weights a person can read, how far to trust it, and its thresholds."""

    stack: Stack = Stack()
    calibrator: Calibrator = Calibrator()
    n_labels: int
    figures: dict[str, Any] = {}
    """ece, brier, auc and bins of scores whose row neither regression nor curve has seen."""
    promises: dict[str, Promise] = {}
    quality: dict[str, MeanQuality] = {}
    """Mean quality by task, and under "" of all answers."""
    reason: str
    version: str = ""

    def sealed(self) -> QualityModel:
        """The same model under the name of its content."""
        content = self.model_dump_json(exclude={"version"})
        return self.model_copy(update={"version": hashlib.sha256(content.encode()).hexdigest()})

    @property
    def usable(self) -> bool:
        """Whether it scores anything."""
        return bool(self.stack.columns)

    def metrics(self) -> dict[str, float]:
        """The figures that are compared from fit to fit, under names that stay the same."""
        found = {name: value for name, value in self.figures.items() if name != "bins"}
        found["labels"] = float(self.n_labels)
        for name, made in self.promises.items():
            parts = {"threshold": made.threshold, "kept": made.kept, "precision": made.precision}
            found |= {f"{part}/{name}": x for part, x in parts.items() if x is not None}
        for name, mean in self.quality.items():
            found |= {f"quality/{name or 'all'}": mean.mean}
            found |= {f"quality_low/{name or 'all'}": mean.low}
        return {name: round(float(value), 4) for name, value in found.items()}

    def title(self) -> str:
        """The fit in a line, to be told apart from others in a list."""
        made = [promise for promise in self.promises.values() if promise.threshold is not None]
        if not self.usable:
            return f"{self.n_labels:,} reviews · no score yet"
        thresholds = f"{len(made)} of {len(self.promises)} thresholds promised"
        return f"{self.n_labels:,} reviews · AUC {self.figures['auc']:.2f} · {thresholds}"

    def predict(self, features: pd.DataFrame, tasks: pd.Series) -> pd.Series:
        """P(good) of each row, by prompt_id."""
        z = self.stack.log_odds(features, tasks)
        return pd.Series(self.calibrator.apply(z), index=features.index)


class Fitted(NamedTuple):
    """A quality model and P(good) of the reviewed answers, each out of fold."""

    model: QualityModel
    scores: pd.Series


def fit_quality(
    features: pd.DataFrame,
    tasks: pd.Series,
    verdicts: pd.DataFrame,
    p_review: pd.Series | None,
    clusters: pd.Series | None = None,
    candidates: pd.Series | None = None,
    *,
    target_precision: float,
    delta: float,
) -> Fitted:
    """Stack the signals into P(good) by L2 logistic regression on the reviewed rows.

    All figures use out-of-fold scores, calibrated by a curve that has not seen the row either.
    Thresholds use the same scores by the curve of all rows, which keeps their order, and come from
    an exact test on a uniform sample of the reviews; they are applied to the model of all folds.

    Args:
        features: of all traces, reviewed or not, as ``labels.signals.features`` gives them; a null
            counts as the mean.
        tasks: of all traces, by prompt_id.
        verdicts: column good of the reviewed answers, by prompt_id, as people found them.
        p_review: chance with which each reviewed row was drawn; rows without one were volunteered
            and are left out. None: all were drawn with the same chance.
        clusters: conversation or the like of each trace: no score is out of fold that has seen
            another turn of the conversation. None: each trace by itself.
        candidates: whether a score could make the answer a positive: thresholds are about these.
            None: all.
        target_precision: promised share of good candidates at or above the threshold.
        delta: allowed chance that the promise is broken.

    Returns:
        The model; not ``usable`` if it may score nothing, without thresholds if nothing can be
        promised. ``reason`` says why, and how many reviews are missing.
    """
    chance = _drawn(features, verdicts, p_review)
    verdicts = verdicts.loc[chance.index]
    good = verdicts["good"].astype(bool)
    promise = {"target_precision": target_precision, "delta": delta}
    folds = fold_numbers(good, clusters) if len(good) >= MIN_LABELS else None
    if folds is None:
        means = _mean_quality(good, None, chance, tasks, clusters)
        reason = too_few(good.to_numpy(), **promise)
        model = QualityModel(n_labels=len(good), quality=means, reason=reason)
        return Fitted(model.sealed(), pd.Series(dtype=float))
    p_good = good.astype(float)
    z = out_of_fold(features, tasks, p_good, folds)
    said = np.asarray(p_good, dtype=np.float64)
    calibrator = fit_calibrator(z, said)
    stack = fit_stack(features, tasks, p_good)
    model = QualityModel(stack=stack, calibrator=calibrator, n_labels=len(good), reason="")
    scores = pd.Series(cross_calibrated(z, said, folds), index=chance.index)
    right, weights = good.to_numpy(bool), review_weights(chance)
    figures = reliability(np.asarray(scores, dtype=np.float64), right, weights=weights)
    proxy = model.predict(features, tasks)
    proxy.loc[chance.index] = scores
    open_to = chance.index if candidates is None else chance.index[candidates.loc[chance.index]]
    uniform = uniform_sample(chance.loc[open_to])
    ranked = pd.Series(calibrator.apply(z), index=chance.index).loc[open_to]
    made = promises(
        ranked,
        good.loc[open_to],
        tasks,
        uniform,
        auc=figures["auc"],
        units=clusters,
        **promise,
    )
    model = model.model_copy(
        update={
            "figures": figures,
            "quality": _mean_quality(good, proxy, chance, tasks, clusters),
            "promises": made,
            "reason": "; ".join(f"{name}: {p.reason}" for name, p in made.items()),
        }
    )
    return Fitted(model.sealed(), scores)


def score_quality(
    model: QualityModel | None,
    features: pd.DataFrame,
    tasks: pd.Series,
    verdicts: pd.DataFrame,
    *,
    most: int = 5,
) -> pd.DataFrame:
    """Score every trace: a human verdict wins, then the model, else nothing is claimed.

    Returns:
        prompt_id, score (1 or 0 for a verdict, None if unknown), threshold of its task (None: there
        is none), origin (human, model or none), because (the ``most`` signals that moved it most,
        in log-odds; the intercept under "start") and version of the model where it spoke.
    """
    frame = pd.DataFrame(index=features.index)
    frame["score"] = frame["threshold"] = np.nan
    frame["origin"], version = "none", None
    because: list[dict[str, float]] = [{}] * len(frame)
    if model is not None and model.usable:
        parts = model.stack.contributions(features, tasks)
        frame["score"] = model.calibrator.apply(parts.sum(axis=1).to_numpy())
        frame["threshold"] = threshold_of(model.promises, tasks.loc[features.index])
        frame["origin"], version = "model", model.version
        because = _because(parts, most)
    frame["because"] = pd.Series(because, index=frame.index, dtype=object)
    known = verdicts[verdicts.index.isin(frame.index)]
    frame.loc[known.index, "score"] = known["good"].astype(float)
    frame.loc[known.index, "origin"] = "human"
    frame["version"] = pd.Series(version, index=frame.index, dtype=object).where(
        frame["origin"] == "model", None
    )
    for name in ("score", "threshold"):
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    return frame.rename_axis("prompt_id").reset_index()


def _mean_quality(
    good: pd.Series,
    proxy: pd.Series | None,
    chance: pd.Series,
    tasks: pd.Series,
    clusters: pd.Series | None,
) -> dict[str, MeanQuality]:
    found, own = {}, tasks.loc[good.index]
    for name in [POOLED, *sorted(map(str, own.unique()))]:
        mine = good if name == POOLED else good[own == name]
        scores = proxy if proxy is None or name == POOLED else proxy[tasks.loc[proxy.index] == name]
        if mean := ppi_mean(mine, scores, chance.loc[mine.index], clusters):
            found[name] = mean
    return found


def _because(parts: pd.DataFrame, most: int) -> list[dict[str, float]]:
    values, names = parts.to_numpy()[:, 1:], np.array(parts.columns[1:])
    order = np.argsort(-np.abs(values), axis=1)[:, :most]
    return [
        {"start": round(float(start), 3)}
        | {str(names[i]): round(float(row[i]), 3) for i in chosen if abs(row[i]) >= 0.0005}
        for start, row, chosen in zip(parts["start"], values, order, strict=True)
    ]


def _drawn(features: pd.DataFrame, verdicts: pd.DataFrame, p_review: pd.Series | None) -> pd.Series:
    known = verdicts.index[verdicts.index.isin(features.index)]
    if p_review is None:
        return pd.Series(1.0, index=known)
    chance = p_review.reindex(known).dropna()
    if len(wrong := chance[(chance <= 0) | (chance > 1)]):
        raise ValueError(f"p_review of {wrong.index[0]} is {wrong.iloc[0]}, not in (0, 1]")
    return chance
