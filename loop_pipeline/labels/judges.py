"""Language models that judge answers: a signal column each, and how far each agrees with people.

Not here: asking a judge (``hallucination/llm_judge.py``), and what people say (``reviews``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from pydantic import BaseModel

from loop_pipeline.stats.kappa import Kappa, cohens_kappa

# Every column of judges begins with one of them; `quality.stacking` gives none a negative weight.
OWN = "judge "
OTHERS = "judges, others"
# A judge gets a column of its own with so many reviewed answers: fewer cannot tell its skill.
LEAST_REVIEWED = 20
# Columns of judges at most, the most reviewed first: each takes some thirty reviews to weigh.
MOST_COLUMNS = 20
# Names that a score remembers at most; who comes after them has no say.
MOST_NAMES = 500


class JudgeAgreement(BaseModel):
    """How far one judge agrees with people on the answers that both have looked at."""

    judge: str
    column: str
    """Its signal column in the quality score: its own, or that of all others; empty: none."""
    with_people: Kappa


def opinions(feedback: pd.DataFrame) -> pd.DataFrame:
    """What each judge says of each answer: the mean, if it was asked several times.

    Args:
        feedback: columns of ``FeedbackRow``; only kind ``judge`` counts.

    Returns:
        prompt_id, judge (its ``actor``, "" if nobody signed), value; sorted.
    """
    said = feedback.loc[feedback["kind"] == "judge", ["prompt_id", "actor", "value"]]
    names = said["actor"].astype(object).where(said["actor"].notna(), "")
    said = said.assign(judge=names.astype(str).str.strip(), value=said["value"].astype(float))
    means = said.groupby(["prompt_id", "judge"])["value"].mean()
    return means.rename("value").reset_index()


def judges_columns(said: pd.DataFrame, reviewed: pd.Index) -> dict[str, str]:
    """Which judge speaks in which signal column of a score that is about to be fitted.

    A judge whose answers were reviewed often enough has one to itself. All others share one: their
    mean. Who is not in it, a judge of later, has no say until the score is fitted again.

    Args:
        said: as ``opinions`` gives it.
        reviewed: prompt ids that the score is fitted to.

    Returns:
        Names of columns by judge, the most reviewed first; the same for the same opinions.
    """
    both = said["prompt_id"].isin(reviewed)
    counts = said.assign(both=both).groupby("judge").agg(both=("both", "sum"), n=("both", "size"))
    names = counts.rename_axis("judge").reset_index()
    names = names.sort_values(["both", "n", "judge"], ascending=[False, False, True])
    found: dict[str, str] = {}
    for name, reviews in names[["judge", "both"]].head(MOST_NAMES).itertuples(index=False):
        own = reviews >= LEAST_REVIEWED and len(found) < MOST_COLUMNS
        found[name] = f"{OWN}{name or 'without a name'}" if own else OTHERS
    return found


def judge_features(said: pd.DataFrame, columns: Mapping[str, str], index: pd.Index) -> pd.DataFrame:
    """The opinions as columns of a quality score, by prompt_id; null where nobody was asked."""
    names = sorted({*columns.values()})
    heard = said[said["judge"].isin(columns)]
    heard = heard.assign(column=heard["judge"].map(dict(columns)))
    wide = heard.pivot_table(index="prompt_id", columns="column", values="value", aggfunc="mean")
    return wide.reindex(index=index, columns=pd.Index(names)).astype(float)


def judges_agreement(
    said: pd.DataFrame,
    good: pd.Series,
    p_review: pd.Series | None,
    units: pd.Series,
    columns: Mapping[str, str],
) -> list[JudgeAgreement]:
    """Each judge against people, the most reviewed first.

    Args:
        said: as ``opinions`` gives it; an answer is good for a judge from 0.5 on.
        good: verdicts of people by prompt_id, on answers that were drawn for review.
        p_review: chance of each review, by prompt_id. None: all the same.
        units: conversation or the like, by prompt_id.
        columns: as ``judges_columns`` gives it.
    """
    rows = said[said["prompt_id"].isin(good.index)]
    found = []
    for name, own in rows.groupby("judge", sort=True):
        ids = own["prompt_id"]
        kappa = cohens_kappa(
            good.loc[ids].to_numpy(bool),
            own["value"].to_numpy(float) >= 0.5,
            weights=None if p_review is None else 1 / p_review.loc[ids].to_numpy(float),
            units=pd.factorize(units.reindex(ids).to_numpy())[0].astype(np.intp),
        )
        column = columns.get(str(name), "")
        if kappa is not None:
            found.append(JudgeAgreement(judge=str(name), column=column, with_people=kappa))
    return sorted(found, key=lambda judge: (-judge.with_people.rows, judge.judge))


def in_words(judge: JudgeAgreement) -> str:
    """A line for people: kappa with its interval, and how often each side says good."""
    found = judge.with_people
    kappa = f"kappa {found.kappa:.2f}" if found.kappa is not None else "kappa cannot be told"
    told = ""
    if found.rows < LEAST_REVIEWED:
        told = "; too few reviews for a weight of its own"
    elif found.high <= 0:
        told = "; it contradicts people, so it has no say"
    elif found.low <= 0:
        told = "; it may be no better than chance"
    return (
        f"judge {judge.judge or 'without a name'}: {kappa} [{found.low:.2f}, {found.high:.2f}] "
        f"with people on {found.rows} reviewed answers; people find {found.first_says_yes:.0%} of "
        f"them good, the judge {found.second_says_yes:.0%}{told}"
    )
