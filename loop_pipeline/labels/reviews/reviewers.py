"""Who decides when people contradict each other, and how far each reviewer can be trusted.

Not here: opinions of language models, which are signals (``labels/signals.py``).

The rule, here and nowhere else. Everything that anybody said is kept; of each reviewer the newest
word on an answer counts, once. Voices are added up in log-odds, each with the weight that its
reviewer has earned on answers which others reviewed as well; of equal sums the newest word is
shown, and decides nothing until a third voice is heard (``relied_on``). Until somebody has
``MIN_OVERLAPS`` such answers their voice counts like everybody's, so few reviews are decided by
the majority. How common good answers are never enters: a verdict says what people found, not what
is usual. Reactions of users are signals and decide nothing.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

MIN_OVERLAPS = 10
# Beta prior of both rates of a reviewer: 80%, worth five answers.
PRIOR_RIGHT = 4.0
PRIOR_WRONG = 1.0
UNTESTED = PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG)
UNTESTED_WEIGHT = (2 * UNTESTED - 1) * math.log(UNTESTED / (1 - UNTESTED))
Z = 1.64
# Clearly worse: at least this much of the others' P(hit) - P(false alarm) is missing.
WORSE = 0.3
LIKE_A_COIN = 0.25
ROUNDS = 200


def newest_words(feedback: pd.DataFrame) -> pd.DataFrame:
    """The newest word of each reviewer on each answer.

    Args:
        feedback: columns of ``FeedbackRow``; only kind ``review`` counts.

    Returns:
        prompt_id, actor ("" if nobody signed), good (bool), ts; oldest first.
    """
    reviews = feedback.loc[feedback["kind"] == "review", ["prompt_id", "actor", "value", "ts"]]
    reviews = reviews.sort_values("ts", kind="stable")
    actors = reviews["actor"].astype(object).where(reviews["actor"].notna(), "")
    reviews = reviews.assign(actor=actors, good=reviews["value"].astype(float) >= 0.5)
    last = reviews.drop_duplicates(["prompt_id", "actor"], keep="last")
    return last[["prompt_id", "actor", "good", "ts"]].reset_index(drop=True)


def weigh_reviewers(feedback: pd.DataFrame) -> pd.DataFrame:
    """Reliability of each reviewer, from the answers that others reviewed as well.

    Dawid and Skene (1979) with a pair of rates for each reviewer and Beta priors, by EM. Its
    assumption, errors that are independent given the truth, is right for people who do not see
    each other's verdicts; for signals, which share their inputs, it is not.

    Args:
        feedback: columns of ``FeedbackRow``; only kind ``review`` counts.

    Returns:
        Columns of ``ReviewerRow``, by actor: reviews, overlaps, finds_good = P(says good | good),
        finds_bad = P(says bad | bad), weight (log-odds that one verdict is expected to add to the
        truth, the symmetric Kullback-Leibler divergence; 0 for a coin), and a warning (or None)
        that names who answers no better than a coin or clearly worse than the others. The
        rates of reviewers with few overlaps are the prior's.
    """
    reviews = newest_words(feedback)
    voices = reviews.groupby("prompt_id")["actor"].transform("size") > 1
    shared = reviews[voices]
    items, _ = pd.factorize(shared["prompt_id"])
    who, names = pd.factorize(shared["actor"])
    counts = _confusion(items, who, shared["good"].to_numpy(bool))
    tested = pd.DataFrame(counts, index=names, columns=["gg", "gb", "bb", "bg"])
    crew = reviews.groupby("actor").size().rename("reviews").to_frame()
    crew["overlaps"] = shared.groupby("actor").size().reindex(crew.index).fillna(0).astype(int)
    tested = tested.reindex(crew.index).where(crew["overlaps"] >= MIN_OVERLAPS).fillna(0.0)
    crew["finds_good"], crew["finds_bad"], spread = _rates(tested)
    odds = (logit(crew["finds_good"]) + logit(crew["finds_bad"])) / 2
    crew["weight"] = (_skill(crew) * odds).where(_skill(crew) > 0, 0.0)
    crew["warning"] = _warnings(crew, spread)
    return crew.rename_axis("actor").reset_index()


def verdicts(feedback: pd.DataFrame, reviewers: pd.DataFrame | None = None) -> pd.DataFrame:
    """What people found about each answer, by the rule at the top of this module.

    Args:
        feedback: columns of ``FeedbackRow``; only kind ``review`` counts.
        reviewers: columns of ``ReviewerRow``; whoever is not in it counts as untested. None: as
            ``weigh_reviewers`` finds them in this feedback.

    Returns:
        Indexed by prompt_id: good (bool), p_good (0 to 1, if good and bad were as likely before),
        reviews (voices), contested (whether they differ).
    """
    reviews = newest_words(feedback)
    crew = weigh_reviewers(feedback) if reviewers is None else reviewers
    rates = crew.set_index("actor")[["finds_good", "finds_bad"]].astype(float)
    of_voice = rates.reindex(reviews["actor"]).fillna(UNTESTED)
    hit, miss = of_voice["finds_good"].to_numpy(), of_voice["finds_bad"].to_numpy()
    good = reviews["good"].to_numpy(bool)
    # A coin, or worse than one, says nothing; its word is not turned round either.
    worth = np.where(good, np.log(hit / (1 - miss)), np.log(miss / (1 - hit)))
    worth = np.where(hit + miss > 1, worth, 0.0)
    signed = reviews.assign(evidence=np.where(good, worth, -worth))
    grouped = signed.groupby("prompt_id")
    total, newest = grouped["evidence"].sum(), grouped["good"].last()
    draw = total.abs() < 1e-9
    return pd.DataFrame(
        {
            "good": ((total > 0) & ~draw | draw & newest).astype(bool),
            "p_good": pd.Series(expit(total.to_numpy(float)), index=total.index),
            "reviews": grouped.size(),
            "contested": grouped["good"].nunique() > 1,
        }
    )


def relied_on(found: pd.DataFrame) -> pd.DataFrame:
    """The verdicts that decide something: those as sure as half of an untested reviewer's word.

    Whoever answers like a coin decides nothing alone: their answers wait for another reviewer.
    """
    sure = (2 * found["p_good"] - 1).abs()
    return found[sure >= (2 * UNTESTED - 1) / 2]


def _confusion(
    items: NDArray[np.intp], who: NDArray[np.intp], good: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """EM. Expected counts, shape (reviewers, 4): good as good, as bad; bad as bad, as good."""
    if not len(items):
        return np.empty((0, 4))
    n, says = int(who.max()) + 1, good.astype(float)
    # Where it starts decides which of two mirror images is found: people are mostly right.
    p = (np.bincount(items, says) + 0.5) / (np.bincount(items) + 1)
    counts: NDArray[np.float64] = np.zeros((n, 4))
    for _ in range(ROUNDS):
        is_good = p[items]
        parts = (is_good * says, is_good * (1 - says))
        parts += ((1 - is_good) * (1 - says), (1 - is_good) * says)
        counts = np.stack([np.bincount(who, part, n) for part in parts], axis=1).astype(float)
        hit = (counts[:, 0] + PRIOR_RIGHT) / (counts[:, :2].sum(1) + PRIOR_RIGHT + PRIOR_WRONG)
        miss = (counts[:, 2] + PRIOR_RIGHT) / (counts[:, 2:].sum(1) + PRIOR_RIGHT + PRIOR_WRONG)
        for_good, for_bad = np.log(hit / (1 - miss)), np.log((1 - hit) / miss)
        usual = logit((p.sum() + 1) / (len(p) + 2))
        before, p = (
            p,
            expit(usual + np.bincount(items, np.where(good, for_good[who], for_bad[who]))),
        )
        if np.abs(p - before).max() < 1e-6:
            break
    return counts


def _rates(counts: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Posterior means of both rates, and the standard error of their sum."""
    means, variance = [], pd.Series(0.0, index=counts.index)
    for right, wrong in (("gg", "gb"), ("bb", "bg")):
        a, b = counts[right] + PRIOR_RIGHT, counts[wrong] + PRIOR_WRONG
        means.append(a / (a + b))
        variance += a * b / ((a + b) ** 2 * (a + b + 1))
    return means[0], means[1], np.sqrt(variance)


def _warnings(crew: pd.DataFrame, spread: pd.Series) -> list[str | None]:
    """Why somebody's verdicts should not be relied on, or None, in the order of the crew."""
    skill = _skill(crew)
    tested = crew["overlaps"] >= MIN_OVERLAPS
    found: list[str | None] = []
    for name in crew.index:
        others = skill[tested & (crew.index != name)]
        low, high = skill[name] - Z * spread[name], skill[name] + Z * spread[name]
        worse = len(others) > 0 and high < others.median() - WORSE
        warned = tested[name] and (worse or (low <= 0 and high < 0.5))
        found.append(_warning(str(name), crew.loc[name], skill[name]) if warned else None)
    return found


def _warning(name: str, row: pd.Series, skill: float) -> str:
    what = "answers like a coin" if skill < LIKE_A_COIN else "is clearly worse than the others"
    return (
        f"{name or 'who did not sign'} {what}: on {row['overlaps']:.0f} answers that others "
        f"reviewed as well, {row['finds_good']:.0%} of the good and {row['finds_bad']:.0%} of the "
        f"bad were found; a verdict of theirs weighs {row['weight']:.2f}, an untested one "
        f"{UNTESTED_WEIGHT:.2f}"
    )


def _skill(crew: pd.DataFrame) -> pd.Series:
    """P(hit) - P(false alarm): 1 for the perfect reviewer, 0 for a coin of any bias."""
    return crew["finds_good"] + crew["finds_bad"] - 1
