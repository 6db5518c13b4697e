"""A certificate that stays while new rows come: tested once, loosened by running evidence.

Not here: which earlier certificate speaks about the same student and group
(``routing/standing.py``), and the test of one set of rows (``certificate.py``).

Testing again on every refit would spend a part of the chance each time, and throw away a
certificate that still holds. So the exact test is made once, when a student is first fitted, and
has most of the group's chance. The rest belongs to one running test (an e-process) for each
of some thresholds, which were fixed by the scores of the first rows: it may be looked at after any
number of rows, for nothing. What has been certified once stays, for as long as student, frontier,
group and score are the same, and while the rows do not speak against it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from loop_pipeline.confidence.certificate import (
    CERTIFIED,
    Certificate,
    certify_group,
    figures_at,
)
from loop_pipeline.confidence.usable_rows import UsableRows, usable_rows
from loop_pipeline.stats.binomial import smallest_certifiable
from loop_pipeline.stats.fixed_sequence import (
    START,
    Right,
    Scores,
    anytime_threshold,
    thresholds_to_try,
)
from loop_pipeline.stats.units.design_effect import effective

# Of a group's chance, what the exact test at the first fit may spend; the rest is for later. With
# half of it the first weeks have two points less, and the weeks after the tenth one or two more.
EXACT = 0.8
# Evidence against a promise, by a running test, at which it is taken back.
AGAINST = 100.0
# How much more often than promised an answer would be wrong.
WORSE = np.array([1.25, 1.5, 2.0, 3.0, 5.0])


def needed(alpha: float, share: float) -> int:
    """The least rows for the exact test of a group that has this share of the chance."""
    return smallest_certifiable(alpha, share * EXACT)


def first_certificate(
    conf: Scores,
    agree: Right,
    *,
    alpha: float,
    share: float,
    unit: ArrayLike | None = None,
    times: ArrayLike | None = None,
    start: float = START,
) -> Certificate:
    """The certificate of a group at a student's first fit.

    Args:
        conf: as for ``certify_group``, like the other arrays.
        agree: whether the student's answer agreed.
        alpha: largest share of disagreement among accepted answers.
        share: chance that this group may ever break its promise with.
        unit: names of what rows belong to.
        times: how often each request was asked.
        start: share of the rows at which the walk starts.

    Returns:
        With the share and the thresholds of the running tests; without them if there are too few
        rows to test: then nothing was spent, and the first fit is still to come.
    """
    found = certify_group(conf, agree, alpha, share * EXACT, unit=unit, times=times, start=start)
    rows = usable_rows(conf, agree, unit, times)
    if len(rows.score) < needed(alpha, share) or np.ptp(rows.score) == 0:
        return found
    grid = thresholds_to_try(rows.score, start=start)
    found = found.model_copy(update={"share": share, "grid": grid})
    return _loosened(found, rows, alpha)


def later_certificate(
    earlier: Certificate,
    conf: Scores,
    agree: Right,
    *,
    alpha: float,
    unit: ArrayLike | None = None,
    times: ArrayLike | None = None,
) -> Certificate:
    """The certificate of the same group, student and score on the rows there are now.

    Args:
        earlier: what was promised before; it has a share and thresholds.
        conf: as for ``certify_group``, like the other arrays.
        agree: whether the student's answer agreed.
        alpha: largest share of disagreement among accepted answers.
        unit: names of what rows belong to.
        times: how often each request was asked.
    """
    rows = usable_rows(conf, agree, unit, times)
    if earlier.threshold is not None and _contradicted(rows, earlier.threshold, alpha):
        served = figures_at(rows, earlier.threshold, alpha, earlier.share * EXACT)
        reason = (
            f"taken back: {served['agreement']:.3f} of the {served['accepted']} calibration "
            f"requests it would serve agree, {1 - alpha:.3f} were promised"
        )
        nothing = figures_at(rows, None, alpha, earlier.share * EXACT)
        earlier = earlier.model_copy(update={"threshold": None, "reason": reason, **nothing})
    elif earlier.threshold is None:
        fresh = certify_group(conf, agree, alpha, earlier.share * EXACT, unit=unit, times=times)
        reason = fresh.reason
        if fresh.threshold is not None:
            reason = (
                "agreement is not proved yet: the exact test was made at the student's first fit, "
                "and later rows have to prove more"
            )
        nothing = figures_at(rows, None, alpha, earlier.share * EXACT)
        earlier = earlier.model_copy(update={"reason": reason, **nothing})
    return _loosened(earlier, rows, alpha)


def _loosened(found: Certificate, rows: UsableRows, alpha: float) -> Certificate:
    """With the loosest threshold that is proved, by the exact test then or the running one now."""
    later = anytime_threshold(
        rows.score,
        rows.right,
        found.grid,
        alpha=alpha,
        delta=found.share * (1 - EXACT),
        unit=rows.code,
        times=rows.times,
    )
    if later is not None and _contradicted(rows, later, alpha):
        later = None
    proved = [t for t in (found.threshold, later) if t is not None]
    if not proved:
        return found
    now = figures_at(rows, min(proved), alpha, found.share * EXACT)
    if found.threshold == min(proved) and found.agreement_lower is not None:
        # A bound that was found once holds as the certificate does.
        now["agreement_lower"] = max(found.agreement_lower, now["agreement_lower"] or 0.0)
    return found.model_copy(update={"threshold": min(proved), "reason": CERTIFIED, **now})


def _contradicted(rows: UsableRows, threshold: float, alpha: float) -> bool:
    """Whether the rows say, however often one looks, that more is wrong than was promised."""
    accepted = rows.score >= threshold
    if not accepted.any():
        return False
    seen = effective(~rows.right[accepted], rows.code[accepted], rows.times[accepted])
    more = np.minimum(WORSE, 0.99 / alpha)
    wealth = seen.errors * np.log(more) + (seen.rows - seen.errors) * np.log(
        (1 - more * alpha) / (1 - alpha)
    )
    return bool(np.logaddexp.reduce(wealth) - np.log(len(more)) >= np.log(AGAINST))
