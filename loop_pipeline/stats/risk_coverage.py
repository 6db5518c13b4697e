"""Coverage and agreement at every threshold, with no promise about any.

Not here: promises (``confidence/certificate.py``).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from loop_pipeline.stats.fixed_sequence import Right, Scores


def risk_coverage(conf: Scores, agree: Right) -> pd.DataFrame:
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


def swept_threshold(conf: Scores, agree: Right, alpha: float) -> float | None:
    """The loosest threshold that looks good on these rows. A control: it promises nothing."""
    curve = risk_coverage(conf, agree)
    fine = curve[curve["agreement"] >= 1 - alpha - 1e-12]
    return float(fine["threshold"].iloc[-1]) if len(fine) else None


def uncertified_coverage(conf: Scores, agree: Right, alpha: float) -> float:
    """Coverage without a certificate: what the swept threshold would claim."""
    threshold = swept_threshold(conf, agree, alpha)
    return float((conf >= threshold).mean()) if threshold is not None else 0.0
