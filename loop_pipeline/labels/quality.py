"""P(good) of every answer, fitted to randomly drawn human verdicts and to nothing else.

Users' reactions are signals, never labels: they are given by who is unhappy or in a hurry.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import expit
from scipy.stats import beta, norm

from loop_pipeline.labels.review import MIN_LABELS, reviews_needed, uniform_sample
from loop_pipeline.labels.threshold import bounded_threshold, threshold_curve

MIN_AUC = 0.6
MAX_WEIGHT = 10.0
PENALTY = 0.5  # sklearn's C on standardised signals; smaller pulls scores to the middle


class MeanQuality(BaseModel):
    """Share of good answers with its 95% interval, and how it was come by."""

    mean: float
    low: float
    high: float
    labels: int
    method: str


class QualityModel(BaseModel):
    """A fitted score: weights a person can read, how far to trust it, and its threshold."""

    columns: list[str] = []
    means: list[float] = []
    scales: list[float] = []
    coef: list[float] = []
    intercept: float = 0.0
    n_labels: int
    ece: float | None = None
    brier: float | None = None
    auc: float | None = None
    bins: list[tuple[float, float, float]] = []
    """Reliability: mean score, share of good answers, share of the rows."""
    threshold: float | None = None
    curve: list[tuple[float, float, float, float]] = []
    """Threshold, kept share, precision, exact lower bound of the precision."""
    quality: MeanQuality | None = None
    reason: str
    version: str = ""

    def sealed(self) -> QualityModel:
        """The same model under the name of its content."""
        content = self.model_dump_json(exclude={"version"})
        return self.model_copy(update={"version": hashlib.sha256(content.encode()).hexdigest()})

    def predict(self, signals: pd.DataFrame) -> pd.Series:
        """P(good) of each row; a signal that is not there counts as its mean."""
        means = pd.Series(self.means, index=self.columns)
        rows = signals.reindex(columns=self.columns).fillna(means)
        z = (rows.to_numpy(float) - self.means) / self.scales @ np.array(self.coef) + self.intercept
        return pd.Series(expit(z), index=signals.index)


def review_verdicts(feedback: pd.DataFrame) -> pd.Series:
    """Whether reviewers found an answer good, by prompt_id.

    Each reviewer's newest word counts once; the majority decides, the newest word breaks a tie.
    """
    reviews = feedback[feedback["kind"] == "review"].sort_values("ts", kind="stable")
    named = reviews["actor"].fillna("") if len(reviews) else reviews["actor"]
    reviews = reviews.assign(actor=named, good=reviews["value"].astype(float) >= 0.5)
    last = reviews.drop_duplicates(["prompt_id", "actor"], keep="last").groupby("prompt_id")["good"]
    share, newest = last.mean(), last.last()
    return ((share > 0.5) | ((share == 0.5) & newest)).astype(bool).rename("good")


def fit_quality(
    signals: pd.DataFrame,
    verdicts: pd.Series,
    p_review: pd.Series | None,
    *,
    target_precision: float,
    delta: float,
) -> QualityModel:
    """Stack the signals into P(good) by L2 logistic regression on the reviewed rows.

    All figures and the threshold use out-of-fold scores; the threshold is then applied to the
    model fitted on all folds. It comes from an exact test on a uniform sample of the reviews.

    Args:
        signals: of all traces, reviewed or not, indexed by prompt_id.
        verdicts: whether a reviewed answer is good, by prompt_id.
        p_review: chance with which each reviewed row was drawn; rows without one were volunteered
            and are left out. None: all were drawn with the same chance.
        target_precision: promised share of good answers at or above the threshold.
        delta: allowed chance that the promise is broken.

    Returns:
        A model; without ``columns`` if it may score nothing, without ``threshold`` if nothing can
        be promised. ``reason`` says why, and how many reviews are missing.
    """
    chance = _drawn(signals, verdicts, p_review)
    good = verdicts.loc[chance.index].to_numpy(bool)
    promise = {"target_precision": target_precision, "delta": delta}
    short = min(int(good.sum()), int((~good).sum()))
    if len(good) < MIN_LABELS or short < 2:
        quality = ppi_mean(verdicts.loc[chance.index], None, chance)
        reason = _too_few(good, short, **promise)
        return QualityModel(n_labels=len(good), quality=quality, reason=reason).sealed()
    reviewed = signals.loc[chance.index]
    means, scales = reviewed.mean(), reviewed.std(ddof=0).replace(0.0, 1.0)
    design = ((reviewed - means) / scales).to_numpy()
    scores = _out_of_fold(design, good, folds=min(10, short))
    coef, intercept = _logistic(design, good)
    model = QualityModel(
        columns=list(signals.columns),
        means=means.tolist(),
        scales=scales.tolist(),
        coef=coef.tolist(),
        intercept=intercept,
        n_labels=len(good),
        reason="",
    )
    proxy = model.predict(signals)
    proxy.loc[chance.index] = scores
    figures = calibration(scores, good, weights=_weights(chance))
    figures |= {"quality": ppi_mean(verdicts.loc[chance.index], proxy, chance)}
    figures |= _threshold(scores, good, chance, figures["auc"], **promise)
    return model.model_copy(update=figures).sealed()


def score_quality(
    model: QualityModel | None, signals: pd.DataFrame, verdicts: pd.Series
) -> pd.DataFrame:
    """Score every trace: a human verdict wins, then the model, else nothing is claimed.

    Returns:
        prompt_id, score (1 or 0 for a verdict, None if unknown), origin (human, model or none),
        version of the model where it spoke.
    """
    usable = model is not None and bool(model.columns)
    score = model.predict(signals) if model and usable else pd.Series(np.nan, index=signals.index)
    frame = pd.DataFrame({"score": score}, index=signals.index)
    frame["origin"] = "model" if usable else "none"
    frame["version"] = model.version if model and usable else None
    known = verdicts[verdicts.index.isin(frame.index)]
    frame.loc[known.index, "score"] = known.astype(float)
    frame.loc[known.index, "origin"] = "human"
    frame["version"] = frame["version"].astype(object).where(frame["origin"] == "model", None)
    frame["score"] = frame["score"].astype(object).where(frame["score"].notna(), None)
    return frame.rename_axis("prompt_id").reset_index()


def ppi_mean(
    verdicts: pd.Series, scores: pd.Series | None, p_review: pd.Series | None
) -> MeanQuality | None:
    """Mean quality of all answers from few verdicts and many scores (PPI++, power-tuned).

    The verdicts are a subset of the scored rows, so this is the difference estimator with its
    variance-minimising weight (Angelopoulos et al. 2023, arXiv 2311.01453), self-normalised by
    1 / p_review. Its interval needs a normal limit: below 50 verdicts or 5 of the rarer kind it is
    the exact binomial one on a uniform sample of the verdicts instead.

    Args:
        verdicts: whether an answer is good, by prompt_id.
        scores: P(good) of all answers, by prompt_id; those of reviewed rows out of fold.
        p_review: chance of each review; None: all the same.
    """
    good = verdicts.to_numpy(bool)
    chance = pd.Series(1.0, index=verdicts.index) if p_review is None else p_review
    chance = chance.loc[verdicts.index]
    if not len(good):
        return None
    if scores is None or len(good) < 50 or min(good.sum(), (~good).sum()) < 5:
        return _exact_mean(good[uniform_sample(chance).to_numpy()])
    f_all, f = scores.to_numpy(float), scores.loc[verdicts.index].to_numpy(float)
    weight = _weights(chance)
    weight = weight / weight.sum()
    cov = np.cov(np.stack([good.astype(float), f]), aweights=weight)
    tuning = float(np.clip(cov[0, 1] / cov[1, 1], 0, 1)) if cov[1, 1] > 0 else 0.0
    rest = good - tuning * f
    mean = tuning * f_all.mean() + weight @ rest
    noise = weight**2 @ (rest - weight @ rest) ** 2 * len(f) / (len(f) - 1)
    shared = 2 * tuning * (cov[0, 1] - tuning * cov[1, 1])
    spread = np.sqrt(noise + max(0.0, tuning**2 * f_all.var() + shared) / len(f_all))
    low, high = mean + norm.ppf([0.025, 0.975]) * spread
    return MeanQuality(
        mean=float(np.clip(mean, 0, 1)),
        low=float(max(0.0, low)),
        high=float(min(1.0, high)),
        labels=len(good),
        method="PPI++",
    )


def calibration(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    *,
    weights: NDArray[np.float64],
    n_bins: int = 10,
) -> dict:
    """ece, brier, auc and reliability bins of scores; bins hold equal shares of the rows."""
    from sklearn.metrics import roc_auc_score

    parts = np.array_split(np.argsort(scores, kind="stable"), n_bins)
    bins = [
        (
            float(np.average(scores[part], weights=weights[part])),
            float(np.average(good[part], weights=weights[part])),
            float(weights[part].sum() / weights.sum()),
        )
        for part in parts
        if len(part)
    ]
    return {
        "ece": sum(share * abs(said - was) for said, was, share in bins),
        "brier": float(np.average((scores - good) ** 2, weights=weights)),
        "auc": float(roc_auc_score(good, scores, sample_weight=weights)),
        "bins": bins,
    }


def _drawn(signals: pd.DataFrame, verdicts: pd.Series, p_review: pd.Series | None) -> pd.Series:
    known = verdicts.index[verdicts.index.isin(signals.index)]
    if p_review is None:
        return pd.Series(1.0, index=known)
    chance = p_review.reindex(known).dropna()
    if len(wrong := chance[(chance <= 0) | (chance > 1)]):
        raise ValueError(f"p_review of {wrong.index[0]} is {wrong.iloc[0]}, not in (0, 1]")
    return chance


def _weights(chance: pd.Series) -> NDArray[np.float64]:
    """Inverse review probability, clipped: few rows may not decide everything."""
    return np.minimum(chance.max() / chance.to_numpy(float), MAX_WEIGHT)


def _out_of_fold(
    design: NDArray[np.float64], good: NDArray[np.bool_], *, folds: int
) -> NDArray[np.float64]:
    from sklearn.model_selection import StratifiedKFold

    scores = np.empty(len(good))
    for fit, rest in StratifiedKFold(folds, shuffle=True, random_state=0).split(design, good):
        coef, intercept = _logistic(design[fit], good[fit])
        scores[rest] = expit(design[rest] @ coef + intercept)
    return scores


def _logistic(
    design: NDArray[np.float64], good: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=PENALTY, max_iter=1000).fit(design, good)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _threshold(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    chance: pd.Series,
    auc: float,
    *,
    target_precision: float,
    delta: float,
) -> dict:
    uniform = uniform_sample(chance).to_numpy()
    kept_scores, kept = scores[uniform], good[uniform]
    curve = threshold_curve(kept_scores, kept, delta=delta)
    if auc < MIN_AUC:
        reason = (
            f"no threshold: the signals hardly tell good from bad (AUC {auc:.2f} on {len(good)} "
            f"reviews, {MIN_AUC} is the least); look at the signals before reviewing more"
        )
        return {"threshold": None, "curve": curve, "reason": reason}
    threshold = bounded_threshold(kept_scores, kept, alpha=1 - target_precision, delta=delta)
    if threshold is not None:
        share = float((kept_scores >= threshold).mean())
        reason = (
            f"at least {target_precision:.0%} of answers scored {threshold:.3f} or more are good, "
            f"except with chance {delta:.0%}; {share:.0%} of the answers are ({len(kept)} reviews "
            f"in a uniform sample of {len(good)})"
        )
        return {"threshold": threshold, "curve": curve, "reason": reason}
    best = kept[np.argsort(-kept_scores, kind="stable")][: max(1, len(kept) // 2)]
    rate = float((~best).mean())
    more = reviews_needed(
        len(good),
        target_precision=target_precision,
        delta=delta,
        error_rate=rate,
        uniform_share=len(kept) / len(good),
    )
    need = (
        f"about {max(more, 1)} more reviews are needed"
        if more is not None
        else "more reviews alone will not help, better signals or answers will"
    )
    reason = (
        f"no threshold: {rate:.1%} of the better half are bad ({len(kept)} reviews in a uniform "
        f"sample), {1 - target_precision:.0%} are allowed; {need}"
    )
    return {"threshold": None, "curve": curve, "reason": reason}


def _too_few(good: NDArray[np.bool_], short: int, *, target_precision: float, delta: float) -> str:
    more = reviews_needed(len(good), target_precision=target_precision, delta=delta)
    if more:
        return (
            f"no score: {len(good)} reviews of randomly drawn answers, at least {more} more are "
            f"needed to promise {target_precision:.0%} good answers"
        )
    kind = "bad" if good.sum() > len(good) / 2 else "good"
    return (
        f"no score: {len(good)} reviews hold {short} {kind} answers, 2 are the least to learn what "
        "sets them apart; people's verdicts are used as they are"
    )


def _exact_mean(good: NDArray[np.bool_]) -> MeanQuality:
    n, right = len(good), int(good.sum())
    low = float(beta.ppf(0.025, right, n - right + 1)) if right else 0.0
    high = float(beta.ppf(0.975, right + 1, n - right)) if right < n else 1.0
    return MeanQuality(mean=right / n, low=low, high=high, labels=n, method="exact binomial")
