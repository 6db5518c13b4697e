"""Whether a fitted policy keeps its promise on gold rows, which nothing was fitted on.

How a policy is fitted is in ``policy_fit``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from loop_pipeline.confidence.answer_score_fit import scores
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.stats.binomial import lower_bound


def _limits(bundle: PolicyBundle, model: str | None) -> dict[str, float | None]:
    """Thresholds of the groups that a model is asked first for; None: the student."""
    mine = [g for g in bundle.groups if g.arm == "student" and g.model == model]
    return {g.group_id: g.threshold for g in mine}


def served(bundle: PolicyBundle, answers: pd.DataFrame) -> pd.Series:
    """Whether the policy would have served the student's answer, per row of ``answers``."""
    floor = answers["group_id"].map(_limits(bundle, None)).astype(float)
    # NaN on either side compares false: unknown group or unservable answer.
    return pd.Series(scores(bundle.score, answers), index=answers.index) >= floor


def gold_outcomes(
    bundle: PolicyBundle, answers: pd.DataFrame, others: Sequence[Contender] = ()
) -> pd.DataFrame:
    """Gold rows of the model that each group's requests go to first.

    Returns:
        prompt_id, group_id, agrees, kept (whether its answer would have been served).
    """
    gold, columns = answers[answers["split"] == "gold"], ["prompt_id", "group_id", "agrees"]
    parts = [gold[columns].assign(kept=served(bundle, gold))]
    for contender in others:
        limits = _limits(bundle, contender.name)
        rows = contender.rows[contender.rows["split"] == "gold"]
        rows = rows[rows["group_id"].isin(list(limits))]
        kept = rows["score"].astype(float) >= rows["group_id"].map(limits).astype(float)
        parts = [p[~p["group_id"].isin(list(limits))] for p in parts]
        parts.append(rows[columns].assign(kept=kept))
    return pd.concat(parts, ignore_index=True)


def check_on_gold(
    bundle: PolicyBundle, answers: pd.DataFrame, others: Sequence[Contender] = ()
) -> pd.DataFrame:
    """What the policy achieves on gold rows, which nothing was fitted on.

    Args:
        bundle: the policy.
        answers: as for ``fit_policy``; only rows of the gold split are used.
        others: the cheaper models of the policy besides the student.

    Returns:
        A row per group and one for ``all`` (unassigned requests included): group_id, name, arm, n,
        served, coverage, agreement and its exact lower bound at 1 - delta (NaN if none served).
    """
    gold = gold_outcomes(bundle, answers, others)
    kept = gold["kept"]
    parts = [(g.group_id, g.name, g.arm, gold["group_id"] == g.group_id) for g in bundle.groups]
    parts.append(("all", "all", "", pd.Series(data=True, index=gold.index)))
    rows = []
    for group_id, name, arm, own in parts:
        n, count = int(own.sum()), int((own & kept).sum())
        good = int((own & kept & gold["agrees"].astype(bool)).sum())
        rows.append(
            {
                "group_id": group_id,
                "name": name,
                "arm": arm,
                "n": n,
                "served": count,
                "coverage": count / n if n else float("nan"),
                "agreement": good / count if count else float("nan"),
                "agreement_lower": lower_bound(good, count, bundle.delta)
                if count
                else float("nan"),
                "target_agreement": bundle.least(str(group_id)),
            }
        )
    return pd.DataFrame(rows)
