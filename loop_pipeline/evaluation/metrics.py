"""Every figure of an evaluation, ready for JSON and MLflow. None: cannot be told.

Not here: tables that show them (``report/evaluation_tables.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from loop_pipeline.answers.agreement import MEASURES
from loop_pipeline.answers.said import was_cut
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.units.design_effect import effective


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures for MLflow: ``gold_…``, with the task or the other contestant in front."""
    flat = _scalars("gold_", metrics)
    for task, part in metrics["tasks"].items():
        flat |= _scalars(f"{task}/gold_", part)
    for name, parts in metrics["differences"].items():
        for figure in ("agreement", "validity", "hallucination"):
            if figure in parts:
                flat |= _scalars(f"against {name}/{figure}_", parts[figure])
    flat |= _scalars("unspent_gold_", metrics.get("unspent") or {})
    flat |= _scalars("fresh_", metrics["fresh"] or {}) | _scalars("gate_", metrics["gate"])
    return flat | _scalars("gate_coverage_", metrics["gate"].get("coverage", {}))


def _scalars(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
    return {f"{prefix}{key}": float(value) for key, value in numbers.items()}


# Fields of free-form JSON are without end; so many of the commonest are kept.
MOST_FIELDS = 20


def summarise(judged: pd.DataFrame) -> dict[str, Any]:
    """Figures of one model's answers: overall, and under ``tasks`` by task.

    Args:
        judged: what `held_out.judge` returned.

    Returns:
        ``n``, ``measure`` (what agreement means here), ``agreement`` with its 95% interval
        (exact; by units where ``unit`` names them),
        ``validity``, ``hallucination`` (flagged share of the ``told`` answers; ``cannot_tell``
        counts the others), ``quality`` (same as the reference), ``tags_micro_f1``, ``field_rate``
        and ``fields`` of JSON, ``rouge_l`` and ``similarity`` of texts where they apply, ``ece``
        and ``auroc`` of exp(logprob_sum) as the probability of agreement, latency percentiles (ms,
        under the load that the evaluation put on the server) and token counts.
    """
    return _summary(judged) | {"tasks": summarise_by(judged, "task")}


def summarise_by(judged: pd.DataFrame, column: str) -> dict[str, Any]:
    """The same figures for each value of a column, such as ``group_id``."""
    return {str(key): _summary(rows) for key, rows in judged.groupby(column, sort=True)}


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    n, good = len(rows), int(rows["agrees"].sum())
    right = rows["agrees"].to_numpy(bool)
    low, high = _interval(right, rows.get("unit"))
    confidence = rows["confidence"].to_numpy(float)
    told = rows[rows["told"].astype(bool)]
    return {
        "n": n,
        "measure": _measure(rows["kind"]),
        "agreement": good / n if n else None,
        "agreement_low": low,
        "agreement_high": high,
        "validity": _mean(rows["valid"]),
        "hallucination": _mean(told["flagged"]),
        "cannot_tell": n - len(told),
        "quality": _mean(rows["same_as_reference"]),
        "tags_micro_f1": micro_f1(rows["tags"]),
        **_fields(rows["fields"]),
        "rouge_l": _mean(rows["rouge_l"]),
        "similarity": _mean(rows["similarity"]),
        "ece": expected_calibration_error(confidence, right) if n else None,
        "auroc": float(roc_auc_score(right, confidence)) if 0 < good < n else None,
        "latency_ms": {f"p{q}": _percentile(rows["latency_ms"], q) for q in (50, 95, 99)},
        "tokens_in": int(rows["tokens_in"].sum()),
        "tokens_out": int(rows["tokens_out"].sum()),
        "too_long": int((rows["finish_reason"] == "too_long").sum()),
        "cut_off": sum(map(was_cut, rows["finish_reason"])),
    }


def _interval(right: np.ndarray, units: pd.Series | None) -> tuple[float, float]:
    """95% interval of a share: the exact one of the independent rows that these are worth."""
    if units is None or not len(right):
        return clopper_pearson(int(right.sum()), len(right))
    worth = effective(~right, pd.factorize(units)[0])
    return clopper_pearson(float(worth.rows - worth.errors), float(worth.rows))


def _measure(kinds: pd.Series) -> str:
    lexical = set((kinds == "text").tolist())
    return "; ".join(MEASURES[is_lexical] for is_lexical in sorted(lexical))


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.astype(float).mean()) if len(known) else None


def _percentile(values: pd.Series, q: int) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None


def micro_f1(counts: pd.Series) -> float | None:
    """F1 over single tags of all rows. None without a tag.

    Args:
        counts: (given, wanted, common) tags of a row; None where there are none to count.
    """
    rows = [row for row in counts if row is not None]
    total = sum(given + wanted for given, wanted, _ in rows)
    return 2 * sum(common for *_, common in rows) / total if total else None


def _fields(rows: pd.Series) -> dict[str, Any]:
    """Share of right fields over all rows, and by name for the commonest."""
    seen: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        for name, right in (row or {}).items():
            seen[name].append(right)
    every = [right for values in seen.values() for right in values]
    commonest = sorted(seen, key=lambda name: (-len(seen[name]), name))[:MOST_FIELDS]
    return {
        "field_rate": float(np.mean(every)) if every else None,
        "fields": {name: float(np.mean(seen[name])) for name in commonest},
    }


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Mean distance between confidence and share right, over bins of equal width on [0, 1]."""
    gap = np.bincount(_bin(confidence, bins), weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def reliability_bins(judged: pd.DataFrame, bins: int = 10) -> list[dict[str, Any]]:
    """Confidence against agreement in the bins of the calibration error, empty ones left out."""
    rows = []
    places = _bin(judged["confidence"].to_numpy(float), bins)
    for place, part in judged.groupby(places, sort=True):
        good = int(part["agrees"].sum())
        low, high = clopper_pearson(good, len(part))
        rows.append(
            {
                "bin": int(place),  # pyright: ignore[reportArgumentType]
                "n": len(part),
                "confidence": float(part["confidence"].mean()),
                "agreement": good / len(part),
                "low": low,
                "high": high,
            }
        )
    return rows


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.minimum((confidence * bins).astype(int), bins - 1)
