"""How soon is a broken promise noticed after a policy is in force, and how often wrongly?

Streams of served answers that were checked against the frontier, one of each conversation. "At most
5% disagree" is promised. The alarm is that of `loop_pipeline/monitoring/risk.py`, looked at after
each row. A change at row 2,000 falls on the row at which a fresh process begins, which is
the best case; "any row" is drawn from the 500 after it. The control is one e-process that is never
restarted. Then the rollout's rule on whole trials, looked at every 25 live rows.

    OMP_NUM_THREADS=1 python -m benchmarks.risk 800

The argument is how many streams are drawn for each row; a tenth as many trials.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.record import Start, record, table
from loop_pipeline.monitoring.risk import ALARM
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.e_process import STAKES, restarted_e_values

BOUND = 0.05
GOOD = 2_000
WITHIN = 550
STREAMS = int(sys.argv[1]) if sys.argv[1:] and sys.argv[1].isdigit() else 2_000
PART = 200
TRIALS = STREAMS // 10


def rings(values: NDArray[np.bool_], *, restarted: bool = True) -> NDArray[np.bool_]:
    """After which rows the alarm rings."""
    if restarted:
        return restarted_e_values(values, BOUND) >= ALARM
    ones = np.cumsum(values, axis=1)
    zeros = np.arange(1, values.shape[1] + 1) - ones
    logs = [ones * np.log1p(s / BOUND - s) + zeros * np.log1p(-s) for s in STAKES]
    return np.mean([np.exp(np.minimum(log, 60)) for log in logs], axis=0) >= ALARM


def found_after(share: float, seed: int, *, aligned: bool, restarted: bool = True) -> list[float]:
    """Rows from the change to the alarm; streams that ring before it are left out."""
    rng = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(STREAMS // PART):
        change = GOOD if aligned else GOOD + int(rng.integers(0, 500))
        good = rng.random((PART, change)) < 0.03
        values = np.concatenate([good, rng.random((PART, 2_000)) < share], axis=1)
        high = rings(values, restarted=restarted)
        late = high[~high[:, :change].any(axis=1), change:]
        found += np.where(late.any(axis=1), late.argmax(axis=1) + 1.0, np.inf).tolist()
    return found


def detection() -> Iterator[dict[str, Any]]:
    """How soon it rings, by how much is wrong."""
    for share in (0.08, 0.10, 0.15, 0.20, 0.40):
        for kind, where, aligned, restarted in (
            ("ours", "row 2,000", True, True),
            ("ours", "any row", False, True),
            ("control", "row 2,000", True, False),
        ):
            rows = np.array(found_after(share, 5, aligned=aligned, restarted=restarted))
            yield {
                "kind": kind,
                "alarm": "restarted" if restarted else "one process for ever",
                "disagree from then on": share,
                "change at": where,
                "found after": float(np.median(rows)),
                "nine in ten after": float(np.quantile(rows, 0.9, method="higher")),
                "found within 550": float((rows <= WITHIN).mean()),
                "streams": len(rows),
            }


def falsely() -> Iterator[dict[str, Any]]:
    """False alarms within 4,000 rows; the control counts all five rows of each conversation."""
    for share in (0.03, 0.04, 0.05):
        for kind, corr in (("ours", 0.0), ("control", 0.6)):
            rng = np.random.default_rng(6)
            drawn = (_rows(rng, share, corr) for _ in range(STREAMS // PART))
            rung = sum(int(rings(values).any(axis=1).sum()) for values in drawn)
            low, high = clopper_pearson(rung, STREAMS)
            yield {
                "kind": kind,
                "counted": "all rows, correlated by 0.6" if corr else "one of each conversation",
                "disagree": share,
                "rings falsely": rung / STREAMS,
                "rings falsely low": low,
                "rings falsely high": high,
                "streams": STREAMS,
            }


def _rows(rng: np.random.Generator, share: float, corr: float) -> NDArray[np.bool_]:
    shared = np.repeat(rng.standard_normal((PART, 800)), 5, axis=1)
    own = rng.standard_normal((PART, 4_000))
    return np.sqrt(corr) * shared + np.sqrt(1 - corr) * own < norm.ppf(share)


def rollouts() -> Iterator[dict[str, Any]]:
    """How trials end, by how much worse the challenger is."""
    from loop_pipeline_tests.rollout.test_canary import trial

    for worse in (0.0, 0.03, 0.05, 0.10):
        rng = np.random.default_rng(7)
        up, down = 0.035 + worse, 0.035
        ends = [trial(rng, up, down, 3_000) for _ in range(TRIALS)]
        rows = {end: [n for e, n in ends if e == end] for end in ("promoted", "stopped")}
        soon = [n for n in rows["promoted"] if n <= 1_300]
        yield {
            "worse on live traffic by": worse,
            "promoted": len(rows["promoted"]) / TRIALS,
            "promoted within 1,300": len(soon) / TRIALS,
            "stopped": len(rows["stopped"]) / TRIALS,
            "live rows, median": float(np.median([n for _, n in ends])),
            "trials": TRIALS,
        }


def main() -> None:
    """Measure, and write the results."""
    start = Start()
    shares: dict[str, str] = dict.fromkeys(
        ("disagree from then on", "found within 550", "disagree"), "share"
    )
    rung = {"rings falsely": "share"}
    trial: dict[str, str] = dict.fromkeys(("promoted", "promoted within 1,300", "stopped"), "share")
    tables = [
        table(
            "Checked answers until the alarm rings, after good ones (3% disagree)",
            list(detection()),
            shares,
        ),
        table(
            "How often the alarm rings within 4,000 answers although at most 5% disagree",
            list(falsely()),
            shares | rung,
        ),
        table(
            "A rollout by live rows, 7% of them discordant where both are equal",
            list(rollouts()),
            trial | {"worse on live traffic by": "share"},
        ),
    ]
    print(record(__file__, __doc__, tables, start))


if __name__ == "__main__":
    main()
