"""Can the quality score be believed, and how wide is the interval of the mean quality?

    LOOP_BENCH_DATA=../shared/data OMP_NUM_THREADS=1 python -m benchmarks.quality_calibration

BEGIN dev with simulated, biased acceptance. ECE, Brier and AUC on the rows that were not labelled,
by number of labels, against Dawid-Skene, majority vote and a model trained on acceptance; then the
width and the coverage of the interval of the share of good answers.
"""

from __future__ import annotations

import csv
import io
import sys

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from benchmarks.data import load
from benchmarks.record import Start, record, table
from loop_pipeline.labels.hallucination.wording_features import features
from loop_pipeline.labels.quality.model import fit_quality
from loop_pipeline.stats.calibration import reliability

PROMISE = {"target_precision": 0.95, "delta": 0.05}
CALIBRATION_DRAWS = 20
INTERVAL_DRAWS = 400
Floats = NDArray[np.float64]


def begin() -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Lexical features, set and truth (`Fully attributable`) of the 1,229 development rows."""
    rows = [
        (name, row["knowledge"], row["response"], row["begin_label"] == "Fully attributable")
        for name in ("wow", "cmu", "tc")
        for row in csv.DictReader(
            io.StringIO(load("begin", f"begin_dev_{name}.tsv.gz").decode(), newline=""),
            delimiter="\t",
            quoting=csv.QUOTE_NONE,
        )
    ]
    index = pd.Index([f"b{i}" for i in range(len(rows))])
    facts = pd.DataFrame([features(answer, source) for _, source, answer, _ in rows], index)
    facts.columns = pd.Index([f"lexical_{i}" for i in range(facts.shape[1])])
    facts["log_words"] = [np.log1p(len(answer.split())) for _, _, answer, _ in rows]
    task = pd.Series([name for name, *_ in rows], index)
    return facts, task, pd.Series([good for *_, good in rows], index)


def with_acceptance(facts: pd.DataFrame, good: pd.Series, rng: np.random.Generator) -> pd.DataFrame:
    """Add what users did: bad answers get a reaction more often and are mostly accepted."""
    right, n = good.to_numpy(), len(good)
    seen = rng.random(n) < np.where(right, 0.5, 0.8)
    accepted = rng.random(n) < np.where(right, 0.93, 0.65)
    modified = ~accepted & (rng.random(n) < 0.5)
    distance = np.clip(rng.beta(2, 3, n) + np.where(right, -0.15, 0.1), 0.02, 1)
    return facts.assign(
        accepted=seen & accepted,
        modified=seen & modified,
        rejected=seen & ~accepted & ~modified,
        no_action=~seen,
        edit_distance=np.where(seen & modified, distance, 0.0),
    ).astype(float)


def calibration_table() -> pd.DataFrame:
    """ECE, Brier and AUC on the rows that were not labelled."""
    facts, task, good = begin()
    lines: dict[tuple[str, int], list[dict]] = {}
    for draw in range(CALIBRATION_DRAWS):
        rng = np.random.default_rng(draw)
        frame = with_acceptance(facts, good, rng)
        order = rng.permutation(frame.index)
        rivals = {
            ("majority of the signals", 0): _votes(frame).mean(axis=1),
            ("Dawid-Skene on the signals", 0): dawid_skene(_votes(frame)),
            ("trained on acceptance", 0): _acceptance(frame),
        }
        for (name, _), score in rivals.items():
            lines.setdefault((name, 0), []).append(reliability(score, good.to_numpy()))
        for labels in (100, 200, 500):
            taught, rest = order[:labels], order[labels:]
            verdicts = good[taught].to_frame("good")
            model = fit_quality(frame, task, verdicts, None, **PROMISE).model
            score = model.predict(frame.loc[rest], task)
            found = reliability(score.to_numpy(), good[rest].to_numpy())
            lines.setdefault(("loop_pipeline", labels), []).append(found)
    return pd.DataFrame(
        [
            {"method": name, "kind": "ours" if labels else "control", "labels": labels}
            | {k.upper(): np.mean([f[k] for f in found]) for k in ("ece", "brier", "auc")}
            for (name, labels), found in lines.items()
        ]
    )


def _votes(frame: pd.DataFrame) -> Floats:
    """Each signal as a vote for "good": above or below its median, and the user's reaction."""
    words = frame[[c for c in frame if c.startswith("lexical")]]
    votes = (words <= words.median()).to_numpy(float)
    reaction = np.where(frame["no_action"] == 1, 0.5, frame["accepted"])
    return np.column_stack([votes, reaction])


def _acceptance(frame: pd.DataFrame) -> Floats:
    seen = frame["no_action"] == 0
    facts = frame[[c for c in frame if c.startswith("lexical")] + ["log_words"]]
    fitted = LogisticRegression(max_iter=1000).fit(facts[seen], frame.loc[seen, "accepted"] > 0)
    return fitted.predict_proba(facts)[:, 1]


def dawid_skene(votes: Floats, rounds: int = 50) -> Floats:
    """P(good) by expectation maximisation over binary voters; 0.5 is no vote."""
    p = votes.mean(axis=1)
    given = votes != 0.5
    for _ in range(rounds):
        log_odds = np.full(len(p), np.log(p.mean() / (1 - p.mean())))
        for said, there in zip(votes.T, given.T, strict=True):
            hit = (p[there] @ said[there] + 1) / (p[there].sum() + 2)
            false = ((1 - p[there]) @ said[there] + 1) / ((1 - p[there]).sum() + 2)
            vote = np.where(said == 1, np.log(hit / false), np.log((1 - hit) / (1 - false)))
            log_odds += np.where(there, vote, 0)
        p = expit(log_odds)
    return p


def interval_table() -> pd.DataFrame:
    """Width and coverage of the interval of the share of good answers."""
    facts, task, good = begin()
    truth, lines = good.mean(), []
    for labels in (100, 200):
        ours, classical = [], []
        for draw in range(INTERVAL_DRAWS):
            rng = np.random.default_rng(draw)
            frame = with_acceptance(facts, good, rng)
            taught = rng.permutation(frame.index)[:labels]
            verdicts = good[taught].to_frame("good")
            half = norm.ppf(0.975) * good[taught].std() / np.sqrt(labels)
            middle = good[taught].mean()
            classical.append((middle - half, middle + half))
            found = fit_quality(frame, task, verdicts, None, **PROMISE).model.quality[""]
            ours.append((found.low, found.high))
        for name, pairs in (("labels alone", classical), ("loop_pipeline (PPI++)", ours)):
            low, high = np.array(pairs).T
            lines.append(
                {
                    "method": name,
                    "kind": "ours" if pairs is ours else "control",
                    "labels": labels,
                    "width": (high - low).mean(),
                    "covers the truth": ((low <= truth) & (truth <= high)).mean(),
                }
            )
    return pd.DataFrame(lines)


def main() -> None:
    """Print two tables, and write them down."""
    start, tables = Start(), []
    for title, tabled in (
        (f"Calibration, mean of {CALIBRATION_DRAWS} draws", calibration_table),
        (f"95% interval of the share of good answers, {INTERVAL_DRAWS} draws", interval_table),
    ):
        found = tabled()
        sys.stdout.write(f"{title}\n{found.round(3).to_string(index=False)}\n\n")
        tables.append(table(title, found, {"covers the truth": "share"}))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
