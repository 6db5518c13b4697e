"""Does a certified threshold keep its promise on real requests, and what coverage does it cost?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.certificate

A linear classifier on TF-IDF stands in for the student and the gold label for the frontier: this
measures the certificate, not a language model. The score is the margin of the best class. Each
draw takes n calibration rows with replacement from a pool; the truth is the risk on the pool.

The walk over thresholds starts with half of the rows, unless validation rows say that a bound can
pass only with fewer. Both are compared with a third as many validation rows as calibration rows, on
CLINC150, where half is right, and in a world where the surest fifth is right in 99% and the rest in
80%.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.svm import LinearSVC

from benchmarks.data import load
from benchmarks.record import Start, record, table
from loop_pipeline.confidence.certificate import certify_group
from loop_pipeline.stats.fixed_sequence import START, first_share
from loop_pipeline.stats.risk_coverage import swept_threshold, uncertified_coverage

ALPHA = 0.05
DELTA = 0.05
DRAWS = 600
SIZES = (100, 200, 500, 1000)
GROUP_ROWS = 400
FOLDS = 10

Scores = NDArray[np.float64]
Verdicts = NDArray[np.bool_]
Texts = NDArray[np.object_]


def _student() -> Pipeline:
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    return make_pipeline(features, LinearSVC(C=1.0, random_state=0))


def _answers(student: Pipeline, texts: Texts, gold: Texts) -> tuple[Scores, Verdicts]:
    """Confidence of the stand-in student, and whether it was right."""
    margins = student.decision_function(texts)
    best = np.sort(margins, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0], student.classes_[margins.argmax(axis=1)] == gold


def clinc150() -> tuple[Scores, Verdicts, Texts]:
    """Trained on the official train part; pool of validation and test, in scope (7,500 rows).

    Returns:
        Confidence, whether it was right, and the domain of each row.
    """
    data = json.loads(load("clinc150", "data_full.json.gz"))
    domains = json.loads(load("clinc150", "domains.json"))
    of = {intent: name for name, intents in domains.items() for intent in intents}
    train, pool = (
        np.array(rows, dtype=object) for rows in (data["train"], data["val"] + data["test"])
    )
    conf, agree = _answers(_student().fit(train[:, 0], train[:, 1]), pool[:, 0], pool[:, 1])
    return conf, agree, np.array([of[intent] for intent in pool[:, 1]], dtype=object)


def banking77() -> tuple[Scores, Verdicts]:
    """Out-of-fold answers to the train part (10,003 rows, ten folds).

    The official test part is not in the folder: here each row is answered by a student of nine
    tenths of the train part, where the published protocol trains on all of it.
    """
    content = load("banking77", "train.csv.gz").decode()
    rows = [(r["text"], r["category"]) for r in csv.DictReader(io.StringIO(content, newline=""))]
    texts, gold = np.array(rows, dtype=object).T
    conf, agree = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for train, held in folds.split(texts, gold.astype(str)):
        student = _student().fit(texts[train], gold[train])
        conf[held], agree[held] = _answers(student, texts[held], gold[held])
    return conf, agree


def _certified(conf: Scores, agree: Verdicts) -> float | None:
    return certify_group(conf, agree, ALPHA, DELTA).threshold


def _swept(conf: Scores, agree: Verdicts) -> float | None:
    return swept_threshold(conf, agree, ALPHA)


def _taken(conf: Scores, threshold: float | None) -> Verdicts:
    return conf >= (np.inf if threshold is None else threshold)


def _broken(agree: Verdicts, taken: Verdicts) -> bool:
    return bool(taken.any() and (~agree[taken]).mean() > ALPHA)


def allowed(draws: int) -> float:
    """Share of draws that may break a promise before chance no longer explains it."""
    return DELTA + 3 * float(np.sqrt(DELTA * (1 - DELTA) / draws))


def measure(
    conf: Scores, agree: Verdicts, n: int, rule: Callable[[Scores, Verdicts], float | None]
) -> dict[str, Any]:
    """Mean true coverage, and share of draws whose true disagreement exceeds the promise."""
    rng = np.random.default_rng(n)
    coverage, broken = [], 0
    for _ in range(DRAWS):
        drawn = rng.integers(len(conf), size=n)
        taken = _taken(conf, rule(conf[drawn], agree[drawn]))
        coverage.append(float(taken.mean()))
        broken += _broken(agree, taken)
    return {"n": n, "coverage": np.mean(coverage), "promise broken": broken / DRAWS}


def measure_groups(conf: Scores, agree: Verdicts, group: Texts, rows: int) -> dict[str, Any]:
    """One promise per group, delta shared: how many are made, and how often any is broken."""
    rng, names = np.random.default_rng(rows), sorted(set(group))
    certified, coverage, broken = [], [], 0
    for _ in range(DRAWS):
        served, count, any_broken = 0, 0, False
        for name in names:
            own = np.flatnonzero(group == name)
            drawn = rng.choice(own, rows)
            found = certify_group(conf[drawn], agree[drawn], ALPHA, DELTA / len(names)).threshold
            taken = _taken(conf[own], found)
            count += found is not None
            served += int(taken.sum())
            any_broken |= _broken(agree[own], taken)
        certified.append(count)
        coverage.append(served / len(conf))
        broken += any_broken
    return {
        "groups": len(names),
        "rows each": rows,
        "certified": np.mean(certified),
        "at least 8": np.mean(np.array(certified) >= 8),
        "coverage": np.mean(coverage),
        "any promise broken": broken / DRAWS,
    }


def minority(rows: int = 50_000) -> tuple[Scores, Verdicts]:
    """A small sure part: the surest fifth is right in 99%, the rest in 80%."""
    rng = np.random.default_rng(5)
    conf = rng.random(rows)
    return conf, rng.random(rows) < np.where(conf >= 0.8, 0.99, 0.8)


def _started(validation: bool) -> Callable[[Scores, Verdicts], float | None]:
    """Certify three quarters of the rows; the others say where to start, or nothing."""

    def rule(conf: Scores, agree: Verdicts) -> float | None:
        n = len(conf) * 3 // 4
        start = START
        if validation:
            start = first_share(conf[n:], agree[n:], rows=n, alpha=ALPHA, delta=DELTA)
        return certify_group(conf[:n], agree[:n], ALPHA, DELTA, start=start).threshold

    return rule


def compare_starts(clinc: tuple[Scores, Verdicts]) -> list[dict[str, Any]]:
    """Where the walk starts, on a set where it does not matter and on one where it does."""
    return [
        {"set": name, "start": start, "kind": kind}
        | measure(conf, agree, n * 4 // 3, _started(validation))
        | {"n": n}
        for name, (conf, agree) in {"clinc150": clinc, "a sure fifth": minority()}.items()
        for n in (300, 600, 1_500)
        for start, kind, validation in (
            ("half", "control", False),
            ("by validation rows", "ours", True),
        )
    ]


def mis_scored(conf: Scores) -> dict[str, Scores]:
    """The student's own score, and four that are wrong on purpose."""
    rng = np.random.default_rng(1)
    return {
        "own": conf,
        "own + noise of its own spread": conf + rng.normal(scale=conf.std(), size=len(conf)),
        "shuffled": np.random.default_rng(0).permutation(conf),
        "reversed": -conf,
        "constant": np.zeros_like(conf),
    }


def _shown(title: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    sys.stdout.write(f"{title}\n{pd.DataFrame(lines).round(3).to_string(index=False)}\n\n")
    shares = ("agreement", "best possible", "coverage", "promise broken", "at least 8")
    return table(title, lines, dict.fromkeys((*shares, "any promise broken"), "share"))


def main() -> None:
    """Print three tables, and write them down."""
    start = Start()
    note = (
        f"{ALPHA:.0%} disagreement allowed; a promise may be broken in {DELTA:.0%} of the draws, "
        f"and by chance in up to {allowed(DRAWS):.1%} of {DRAWS} (three standard deviations)."
    )
    sys.stdout.write(f"{note}\n\n")
    clinc = clinc150()
    lines = [
        {
            "set": name,
            "kind": kind,
            "threshold": {"ours": "certified", "control": "swept on the same rows"}[kind],
            "agreement": agree.mean(),
            "best possible": uncertified_coverage(conf, agree, ALPHA),
        }
        | measure(conf, agree, n, rule)
        for name, (conf, agree) in {"clinc150": clinc[:2], "banking77": banking77()}.items()
        for n in SIZES
        for kind, rule in (("ours", _certified), ("control", _swept))
    ]
    title = "Coverage and broken promises (banking77: the train part, out of fold)"
    tables = [_shown(title, lines)]
    conf, agree, domain = clinc
    wrong = [
        {"score": name, "kind": "ours" if name == "own" else "control"}
        | measure(score, agree, 500, _certified)
        for name, score in mis_scored(conf).items()
    ]
    tables.append(_shown("clinc150 with a score that is wrong on purpose", wrong))
    starts = compare_starts(clinc[:2])
    tables.append(_shown("Where the walk starts; n calibration rows", starts))
    each = [measure_groups(conf, agree, domain, GROUP_ROWS)]
    tables.append(_shown("clinc150, a promise per domain", each))
    record(__file__, __doc__, tables, start, notes=[note])


if __name__ == "__main__":
    main()
