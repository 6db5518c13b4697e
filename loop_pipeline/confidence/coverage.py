"""How much of the traffic a student could be certified for, and whether another has less.

Not here: the certificates in force (``routing/policy.py``).

Certified coverage jumps: an equal student has over two points less in 13 to 48% of the draws
(simulated: 250 to 500 rows a group, one to six groups, 93 to 97% agreement). So a loss has to be
larger than that *and* larger than what exchanging the two students' answers at random gives.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loop_pipeline.confidence.answer_score_fit import fit_score, scores
from loop_pipeline.confidence.certificate import certify_group, shared_delta
from loop_pipeline.confidence.standing_certificate import EXACT, needed
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.stats.binomial import smallest_certifiable
from loop_pipeline.stats.fixed_sequence import STEPS
from loop_pipeline.stats.sampling import coin
from loop_pipeline.stats.units.traffic_evidence import evidence

SWAPS = 400
HALF = 0.5


@dataclass(frozen=True)
class CoverageFigures:
    """Certified coverage of two students (shares of all ``n`` calibration requests).

    ``p_lower`` is the chance of a loss as large as this one if the two were the same. None: the
    student has no calibration answers, or no group has the rows that a certificate needs.
    """

    candidate: float | None
    rival: float | None
    p_lower: float | None
    n: int
    note: str

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return asdict(self)


def most_certifiable(disagreement: float, alpha: float) -> float:
    """The largest share of requests of which any method could promise ``alpha``, whatever it knows.

    Even if it served every answer that agrees, and of the others only as many as are allowed.

    Args:
        disagreement: of the student over all requests.
        alpha: largest share of disagreement among what is served.
    """
    return min(1.0, 1 - (disagreement - alpha) / (1 - alpha))


def most_by_group(calibration: pd.DataFrame, alpha: float) -> dict[str, float]:
    """``most_certifiable`` of each group, by the rows that certificates rest on."""
    wrong = 1 - calibration["agrees"].astype(float).groupby(calibration["group_id"]).mean()
    return {str(group): most_certifiable(float(share), alpha) for group, share in wrong.items()}


def compare_coverage(
    candidate: pd.DataFrame,
    rival: pd.DataFrame | None,
    *,
    target_agreement: float,
    delta: float,
    swaps: int = SWAPS,
    seed: int = 0,
) -> CoverageFigures:
    """Certify two students on the same calibration requests, as a first policy of each would.

    Args:
        candidate: ``student_answers`` of the validation and calibration split with ``group_id``,
            ``contract`` and ``source``; one row a distinct request; with ``unit`` and ``times`` if
            they are known, as ``routing.calibration_rows`` gives them; else with ``cluster`` (what
            a row belongs together with), if that is.
        rival: the same of the other student; None or without calibration rows: unknown.
        target_agreement: promised agreement among served answers.
        delta: chance that any group's promise is broken; both students share it alike.
        swaps: random exchanges of the two students' answers, for the p-value.
        seed: of the exchanges.
    """
    alpha = round(1 - target_agreement, 12)
    mine, theirs = _scored(candidate), _scored(rival)
    if len(mine) and len(theirs):
        both = mine.index.intersection(theirs.index)
        mine, theirs = mine.loc[both], theirs.loc[both]
    sizes = mine.loc[mine["group_id"] != UNASSIGNED, "group_id"].value_counts()
    need = needed(alpha, shared_delta(delta, 1, 1))
    tested = sizes[sizes >= need].index.tolist()
    if not tested:
        note = (
            f"{len(mine)} calibration answers; the largest group has {max(sizes, default=0)} and"
            f" a certificate needs {need}"
        )
        return CoverageFigures(None, None, None, len(mine), note)
    share = shared_delta(delta, len(tested), 1) * EXACT
    ours = _coverage(mine, tested, alpha, share)
    if theirs.empty:
        return CoverageFigures(ours, None, None, len(mine), "the other has no calibration answers")
    other = _coverage(theirs, tested, alpha, share)
    p = _p_lower(mine, theirs, tested, alpha=alpha, delta=share, swaps=swaps, seed=seed)
    return CoverageFigures(ours, other, p, len(mine), f"{len(tested)} groups tested")


def validation_coverage(
    answers: pd.DataFrame, *, target_agreement: float, delta: float
) -> float | None:
    """Coverage that a student could be certified for, by its validation rows alone.

    Students may be chosen by it: the calibration rows stay unseen for the certificate. All groups
    are taken together, and each half of the rows is scored by a fit to the other half.

    Args:
        answers: ``student_answers`` rows with ``group_id``, ``contract`` and ``source``, and
            ``cluster`` if it is known.
        target_agreement: promised agreement among served answers.
        delta: chance that the promise is broken.

    Returns:
        The share of the rows; None if they are too few for any certificate.
    """
    alpha = round(1 - target_agreement, 12)
    rows = answers[answers["split"] == "validation"].sort_values("prompt_id", kind="stable")
    if len(rows) < smallest_certifiable(alpha, delta):
        return None
    side = np.array([coin("validation half", str(p)) < HALF for p in rows["prompt_id"]])
    score = np.full(len(rows), np.nan)
    for own in (side, ~side):
        if own.any():
            score[own] = scores(fit_score(rows[~own]), rows[own])
    agrees = rows["agrees"].to_numpy(bool)
    unit = rows.get("cluster")
    return certify_group(score, agrees, alpha, delta, unit=unit).accepted / len(rows)


def _scored(answers: pd.DataFrame | None) -> pd.DataFrame:
    """Calibration rows by prompt id with their score, as the router would compute it."""
    names = ["group_id", "agrees", "score", "unit", "times"]
    if answers is None or answers.empty:
        return pd.DataFrame(columns=pd.Index(names))
    weights = fit_score(answers[answers["split"] == "validation"])
    rows = answers[answers["split"] == "calibration"]
    scored = rows.assign(score=scores(weights, rows), agrees=rows["agrees"].astype(bool))
    if "unit" not in scored:
        scored = scored.assign(unit=rows.get("cluster", rows["prompt_id"]))
    if "times" not in scored:
        scored = scored.assign(times=1)
    return scored.set_index("prompt_id")[names].sort_index(kind="stable")


def _coverage(rows: pd.DataFrame, groups: list[str], alpha: float, delta: float) -> float:
    accepted = 0
    for group in groups:
        own = rows[rows["group_id"] == group]
        score, agrees = own["score"].to_numpy(float), own["agrees"].to_numpy(bool)
        found = certify_group(score, agrees, alpha, delta, unit=own["unit"], times=own["times"])
        accepted += found.accepted
    return accepted / int(rows["times"].sum())


def _p_lower(
    mine: pd.DataFrame,
    theirs: pd.DataFrame,
    groups: list[str],
    *,
    alpha: float,
    delta: float,
    swaps: int,
    seed: int,
) -> float:
    """Permutation test: were the two the same, which of them gave which answer would not matter.

    Scores are compared by their rank within a student and group; a certificate uses no more. The
    answers of a unit are exchanged together.
    """
    rng = np.random.default_rng(seed)
    lead = np.zeros(swaps + 1)
    for group in groups:
        own = (mine["group_id"] == group).to_numpy()
        a, b = (_ranks(side.loc[own, "score"]) for side in (mine, theirs))
        right_a, right_b = (side.loc[own, "agrees"].to_numpy(bool) for side in (mine, theirs))
        unit = pd.factorize(mine.loc[own, "unit"])[0].astype(np.int64)
        times = mine.loc[own, "times"].to_numpy(float)
        swap = rng.random((swaps + 1, int(unit.max()) + 1)) < HALF
        swap[0] = False  # what was observed
        swap = swap[:, unit]
        for sign, x, y, right_x, right_y in (
            (1, a, b, right_a, right_b),
            (-1, b, a, right_b, right_a),
        ):
            rank, right = np.where(swap, y, x), np.where(swap, right_y, right_x)
            lead += sign * accepted_counts(
                rank, right, alpha=alpha, delta=delta, unit=unit, times=times
            )
    return float(np.mean(lead <= lead[0]))


def _ranks(score: pd.Series) -> NDArray[Any]:
    """Rank as a share of the usable rows; minus infinity for an answer that is never served."""
    return score.rank(method="first", pct=True).fillna(-np.inf).to_numpy(float)


def accepted_counts(
    score: NDArray[np.float64],
    right: NDArray[np.bool_],
    *,
    alpha: float,
    delta: float,
    unit: NDArray[np.int64] | None = None,
    times: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """What `certificate.certify_group` accepts in many samples of one group at once.

    Args:
        score: shape (b, n), without ties; minus infinity for what is never accepted.
        right: shape (b, n).
        alpha: largest share of errors among the accepted.
        delta: allowed chance that it is larger.
        unit: shape (n,), codes from 0 of rows that err together; None: each by itself.
        times: shape (n,), how often each request was asked; None: once.

    Returns:
        Accepted requests of each sample, repeats included, shape (b,).
    """
    n, need = score.shape[1], smallest_certifiable(alpha, delta)
    finite = np.isfinite(score)
    usable = finite.sum(axis=1)
    order = np.argsort(-score, axis=1)
    asked = np.where(finite, 1.0 if times is None else times, 0.0)
    asked = np.take_along_axis(asked, order, axis=1)
    code = None if unit is None else unit[order]
    wrong = ~np.take_along_axis(right, order, axis=1)
    found = evidence(wrong, code, asked, alpha=alpha, delta=delta)
    start = np.minimum(np.maximum(usable // 2, need), usable)
    steps = np.maximum(np.linspace(start, usable, STEPS, axis=1).astype(int), 1) - 1
    held = found.at(np.minimum(steps, n - 1)).p_values <= delta
    passed = np.cumprod(held & (usable >= need)[:, None], axis=1).sum(axis=1)
    last = np.take_along_axis(steps, np.maximum(passed, 1)[:, None] - 1, axis=1)
    taken = np.take_along_axis(asked.cumsum(axis=1), last, axis=1)[:, 0]
    return np.where(passed > 0, taken, 0).astype(np.int64)
