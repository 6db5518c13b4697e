"""Whether a fitted policy keeps its promise on gold rows, which nothing was fitted on.

How a policy is fitted is in ``policy_fit``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from loop_pipeline.confidence.answer_score_fit import scores
from loop_pipeline.confidence.certificate import promise_state
from loop_pipeline.routing.offers import Contender
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.stats.binomial import lower_bound
from loop_pipeline.stats.units.design_effect import effective

# Below this chance of finding twice the errors a verdict says nothing.
MIN_POWER = 0.5


def _worth(right: np.ndarray, rows: pd.DataFrame) -> float:
    """Independent rows that these are worth; without units, all."""
    if "unit" not in rows or not len(rows):
        return float(len(rows))
    names = rows["unit"].fillna(rows["prompt_id"])
    return float(effective(~right, pd.factorize(names)[0]).rows)


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
    gold = answers[answers["split"] == "gold"]
    columns = ["prompt_id", "group_id", "agrees"] + ["unit"] * ("unit" in gold)
    parts = [gold[columns].assign(kept=served(bundle, gold))]
    for contender in others:
        limits = _limits(bundle, contender.name)
        rows = contender.rows[contender.rows["split"] == "gold"]
        rows = rows[rows["group_id"].isin(list(limits))]
        kept = rows["score"].astype(float) >= rows["group_id"].map(limits).astype(float)
        parts = [p[~p["group_id"].isin(list(limits))] for p in parts]
        parts.append(rows.reindex(columns=columns).assign(kept=kept))
    return pd.concat(parts, ignore_index=True)


def chance_to_find(served: float, *, target: float, level: float) -> float:
    """Chance that so many served rows show that a promise is broken, if twice the errors are there.

    Args:
        served: independent served rows.
        target: promised share of agreement.
        level: chance of calling a promise broken that is just kept.
    """
    n, allowed = int(served), 1 - target
    fewest = binom.isf(level, n, allowed)  # more errors than this prove it
    return float(binom.sf(fewest, n, min(1.0, 2 * allowed))) if n else 0.0


def verdicts(gold: pd.DataFrame) -> pd.DataFrame:
    """What gold rows say about the promises of policies, each group's and all groups' together.

    A group alone has few served gold rows: of 150 a share of 90% instead of 95% is found in two
    draws of five. But if every group keeps its promise, so do all together, and of these there are
    enough. So half of ``delta`` goes to that test, and half to the groups, one by one.

    Args:
        gold: rows of `check_on_gold` of one policy or several, with the columns who and delta.

    Returns:
        The rows with verdict (`confidence.certificate.promise_state`, or ``cannot tell``) and
        found (the chance that twice the errors would have been found).
    """
    groups = gold["group_id"] != "all"
    tested = max(int((groups & (gold["served"] > 0)).sum()), 1)
    policies = max(int((~groups & (gold["served"] > 0)).sum()), 1)
    states, found = [], []
    numbers = gold[["worth", "agreement", "target_agreement", "delta"]].fillna(0.0).to_numpy(float)
    for (worth, agreement, target, delta), group in zip(numbers, groups, strict=True):
        level = float(delta / 2 / (tested if group else policies))
        state: str = promise_state(worth * agreement, worth, target=target, delta=level, groups=1)
        power = chance_to_find(worth, target=target, level=level)
        blind = state in ("kept", "in doubt") and power < MIN_POWER
        states.append("cannot tell" if blind else state)
        found.append(power)
    return gold.assign(verdict=states, found=found)


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
        served, worth (independent rows that these are worth, see ``stats.design_effect``),
        coverage, agreement and its exact lower bound at 1 - delta (NaN if none served).
    """
    gold = gold_outcomes(bundle, answers, others)
    kept = gold["kept"]
    parts = [(g.group_id, g.name, g.arm, gold["group_id"] == g.group_id) for g in bundle.groups]
    parts.append(("all", "all", "", pd.Series(data=True, index=gold.index)))
    rows = []
    for group_id, name, arm, own in parts:
        n, count = int(own.sum()), int((own & kept).sum())
        right = gold.loc[own & kept, "agrees"].to_numpy(bool)
        good, worth = int(right.sum()), _worth(right, gold[own & kept])
        rows.append(
            {
                "group_id": group_id,
                "name": name,
                "arm": arm,
                "n": n,
                "served": count,
                "worth": worth,
                "coverage": count / n if n else float("nan"),
                "agreement": good / count if count else float("nan"),
                "agreement_lower": lower_bound(worth * good / count, worth, bundle.delta)
                if count
                else float("nan"),
                "target_agreement": bundle.least(str(group_id)),
            }
        )
    return pd.DataFrame(rows)
