"""The policy beside its controls, on the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from loop_pipeline.routing.certificate import Scores, Verdicts
from loop_pipeline.routing.fitting import served
from loop_pipeline.routing.policy import PolicyBundle


def risk_coverage(conf: Scores, agree: Verdicts) -> pd.DataFrame:
    """The whole trade: columns threshold, coverage, agreement, one row per distinct score.

    Args:
        conf: shape (n,); NaN counts as never served.
        agree: shape (n,).
    """
    order = np.argsort(-np.where(np.isfinite(conf), conf, -np.inf), kind="stable")
    ranked, good = conf[order], np.cumsum(agree[order])
    count = np.arange(1, len(conf) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True) & np.isfinite(ranked)  # ties move together
    return pd.DataFrame(
        {
            "threshold": ranked[last],
            "coverage": count[last] / max(len(conf), 1),
            "agreement": good[last] / count[last],
        }
    )


def swept_threshold(conf: Scores, agree: Verdicts, alpha: float) -> float | None:
    """The loosest threshold that looks good on these rows. A control: it promises nothing."""
    curve = risk_coverage(conf, agree)
    fine = curve[curve["agreement"] >= 1 - alpha - 1e-12]
    return float(fine["threshold"].iloc[-1]) if len(fine) else None


def uncertified_coverage(conf: Scores, agree: Verdicts, alpha: float) -> float:
    """Coverage without a certificate: what the swept threshold would claim."""
    threshold = swept_threshold(conf, agree, alpha)
    return float((conf >= threshold).mean()) if threshold is not None else 0.0


def controls(bundle: PolicyBundle, answers: pd.DataFrame) -> pd.DataFrame:
    """The policy against routers that know less, or everything.

    Random and prompt length serve as many requests as the policy; the oracle serves every
    agreeing answer and as many others as the target allows.

    Args:
        bundle: the policy.
        answers: ``student_answers`` columns + group_id, gold rows as a rule.

    Returns:
        Columns router, share_student, agreement_served (NaN if nothing is served) and
        agreement_overall, where a request sent to the frontier agrees by definition.
    """
    n = len(answers)
    if n == 0:
        raise ValueError("no answers to compare routers on; evaluate a checkpoint first")
    agree = answers["agrees"].to_numpy(dtype=bool)
    kept = served(bundle, answers).to_numpy()
    share, base = float(kept.mean()), float(agree.mean())
    shortest = np.argsort(answers["tokens_in"].to_numpy(), kind="stable")[: int(kept.sum())]
    best = min(1.0, base / bundle.target_agreement)
    figures = [
        ("policy", share, agree[kept].mean() if kept.any() else np.nan),
        ("always student", 1.0, base),
        ("always frontier", 0.0, np.nan),
        ("random, same share", share, base if kept.any() else np.nan),
        ("shortest prompts, same share", share, agree[shortest].mean() if kept.any() else np.nan),
        ("oracle", best, base / best if best else np.nan),
    ]
    frame = pd.DataFrame(figures, columns=["router", "share_student", "agreement_served"])
    wrong = frame["share_student"] * (1 - frame["agreement_served"].fillna(1.0))
    return frame.assign(agreement_overall=1 - wrong)
