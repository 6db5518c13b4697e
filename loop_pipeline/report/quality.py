"""Pictures and tables of a fitted quality score.

Not here: the fit (``labels/quality/model.py``).
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from loop_pipeline.labels.judges import JudgeAgreement
from loop_pipeline.labels.quality.model import QualityModel
from loop_pipeline.labels.quality.thresholds import Promise
from loop_pipeline.report.pictures.plots import (
    reliability_figure,
    shares_figure,
    threshold_figure,
    weights_figure,
)
from loop_pipeline.traces.shown_text import text_table


def quality_figures(model: QualityModel) -> dict[str, Any]:
    """Pictures of a fitted score by name."""
    if not model.usable:
        return {}
    named = zip(model.stack.columns, model.stack.weights[""], strict=True)
    shared = {name: weight for name, weight in named if abs(weight) >= 0.005}
    figures: dict[str, Any] = {
        "weights": weights_figure(shared),
        "reliability": reliability_figure(
            model.figures["bins"], "score of an answer, out of fold", "share of good answers"
        ),
    }
    for name, promise in model.promises.items():
        figures[f"threshold {name}"] = threshold_figure(promise.curve, promise.threshold)
    means = {name or "all": mean.model_dump() for name, mean in model.quality.items()}
    figures["mean_quality"] = shares_figure(means, "share of good answers, 95% interval")
    return figures


def promise_table(promises: dict[str, Promise]) -> str:
    """What is promised for which task, from which score on, as markdown."""
    rows = [
        {"task": name, "threshold": p.threshold, "reviews": p.reviews, "says": p.reason}
        for name, p in promises.items()
    ]
    return text_table(pd.DataFrame(rows), index=False) if rows else "none"


def mean_table(model: QualityModel) -> str:
    """Estimated share of good answers by task, with its interval, as markdown."""
    means = {name or "all": mean.model_dump() for name, mean in model.quality.items()}
    if not means:
        return "none"
    frame = pd.DataFrame(means).T.reset_index(names="task")
    return text_table(frame, index=False, floatfmt=".3f")


def weights_table(model: QualityModel) -> str:
    """How far each signal moves the score, by task, the strongest first, as markdown."""
    if not model.usable:
        return "none"
    weights = pd.DataFrame(model.stack.weights, index=pd.Index(model.stack.columns))
    weights = weights.rename(columns={"": "all tasks"}).sort_values("all tasks", key=abs)[::-1]
    return text_table(weights, floatfmt="+.2f")


def judges_table(judges: list[JudgeAgreement], model: QualityModel) -> str:
    """Each judge against people, and what it weighs in the score, as markdown."""
    weights = dict(zip(model.stack.columns, model.stack.weights.get("", []), strict=model.usable))
    rows = [
        {
            "judge": one.judge or "without a name",
            "reviewed": one.with_people.rows,
            "kappa": one.with_people.kappa,
            "low": one.with_people.low,
            "high": one.with_people.high,
            "people say good": one.with_people.first_says_yes,
            "it says good": one.with_people.second_says_yes,
            "speaks in": one.column or "no column",
            "weight": weights.get(one.column),
        }
        for one in judges
    ]
    none = "no answer has been judged and reviewed"
    return text_table(pd.DataFrame(rows), index=False, floatfmt=".2f") if rows else none
