"""Which model does how well on which group, and at what price."""

from __future__ import annotations

import pandas as pd

from loop_pipeline.labels.threshold import clopper_pearson


def frontier_statistics(
    traces: pd.DataFrame, members: pd.DataFrame, flags: pd.DataFrame, verdicts: pd.Series
) -> pd.DataFrame:
    """Rows of ``group_model_stats`` for the models whose answers were logged.

    Quality is the share of good verdicts among reviewed answers, with an exact interval.

    Args:
        traces: logged traces.
        members: ``group_members``.
        flags: ``hallucination_flags`` of the traces that have them.
        verdicts: prompt_id to whether a person found the answer good.
    """
    frame = (
        traces.merge(members[["prompt_id", "group_id"]], on="prompt_id")
        .merge(flags[["prompt_id", "flag"]], on="prompt_id", how="left")
        .assign(good=lambda f: f["prompt_id"].map(verdicts))
    )
    rows = []
    for (group, model), own in frame.groupby(["group_id", "model"], sort=True):
        reviewed = own["good"].dropna().astype(bool)
        low, high = clopper_pearson(int(reviewed.sum()), len(reviewed))
        flagged = own["flag"].dropna()
        rows.append(
            _row(group, model, "all logged requests", own["cost_usd"].mean(), own["latency_ms"])
            | {
                "requests": len(own),
                "quality": float(reviewed.mean()) if len(reviewed) else None,
                "quality_low": low if len(reviewed) else None,
                "quality_high": high if len(reviewed) else None,
                "flagged_share": float(flagged.mean()) if len(flagged) else None,
                "agreement": None,
            }
        )
    return pd.DataFrame(rows)


def student_statistics(
    answers: pd.DataFrame, members: pd.DataFrame, *, model: str, usd_per_request: float
) -> pd.DataFrame:
    """Rows of ``group_model_stats`` for a student, on held-out requests it never learned from.

    Every held-out request was answered, whatever the router would have done: no selection.
    """
    frame = answers.merge(members[["prompt_id", "group_id"]], on="prompt_id")
    rows = []
    for group, own in frame.groupby("group_id", sort=True):
        rows.append(
            _row(group, model, "held-out requests", usd_per_request, own["latency_ms"])
            | {
                "requests": len(own),
                "quality": None,
                "quality_low": None,
                "quality_high": None,
                "flagged_share": None,
                "agreement": float(own["agrees"].mean()),
            }
        )
    return pd.DataFrame(rows)


def _row(
    group: object, model: object, sample: str, cost: float, latency: pd.Series
) -> dict[str, object]:
    known = latency.dropna().astype(float)
    return {
        "group_id": group,
        "model": model,
        "sample": sample,
        "cost_per_request": float(cost),
        "latency_p50_ms": float(known.quantile(0.5)) if len(known) else None,
        "latency_p95_ms": float(known.quantile(0.95)) if len(known) else None,
    }


def frontier_usd_by_group(traces: pd.DataFrame, members: pd.DataFrame) -> dict[str, float]:
    """What the frontier billed for a request of each group, on average (USD)."""
    costs = traces.merge(members[["prompt_id", "group_id"]], on="prompt_id")
    return {str(g): float(c) for g, c in costs.groupby("group_id")["cost_usd"].mean().items()}
