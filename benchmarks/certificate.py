"""Does a certified threshold keep its promise on real requests, and what coverage does it cost?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.certificate

A linear classifier on TF-IDF stands in for the student and the gold label for the frontier: this
measures the certificate, not a language model. The score is the margin of the best class. Each
draw takes n calibration rows with replacement from a pool; the truth is the risk on the pool.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from loop_pipeline.routing.certificate import certify_group
from loop_pipeline.routing.evaluation import swept_threshold, uncertified_coverage

ALPHA, DELTA, DRAWS, SIZES = 0.05, 0.05, 600, (100, 200, 500, 1000)

Rows = list[tuple[str, str]]
Pool = tuple[NDArray[np.float64], NDArray[np.bool_]]


def clinc150(folder: Path) -> tuple[Rows, Rows]:
    """Official train part; pool of validation and test, in scope (7,500 rows)."""
    with gzip.open(folder / "clinc150" / "data_full.json.gz", "rt", encoding="utf-8") as file:
        data = json.load(file)
    return [(t, y) for t, y in data["train"]], [(t, y) for t, y in data["val"] + data["test"]]


def banking77(folder: Path) -> tuple[Rows, Rows]:
    """The train part alone, 70% to train on; the official test part is not in the folder."""
    with gzip.open(folder / "banking77" / "train.csv.gz", "rt", encoding="utf-8") as file:
        rows = [(r["text"], r["category"]) for r in csv.DictReader(file)]
    order = np.random.default_rng(0).permutation(len(rows))
    cut = int(0.7 * len(rows))
    return [rows[i] for i in order[:cut]], [rows[i] for i in order[cut:]]


def answers(train: Rows, pool: Rows) -> Pool:
    """Confidence of the stand-in student on the pool, and whether it was right."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    student = make_pipeline(features, LinearSVC(C=1.0, random_state=0))
    student.fit([t for t, _ in train], [y for _, y in train])
    margins = student.decision_function([t for t, _ in pool])
    best = np.sort(margins, axis=1)[:, -2:]
    said = student.classes_[margins.argmax(axis=1)]
    return best[:, 1] - best[:, 0], said == np.array([y for _, y in pool])


def measure(conf: NDArray[np.float64], agree: NDArray[np.bool_], n: int) -> dict[str, float]:
    """Mean true coverage, and share of draws whose true disagreement exceeds the promise."""
    rng = np.random.default_rng(n)
    figures: dict[str, list[float]] = {"certified": [], "swept": []}
    broken = dict.fromkeys(figures, 0)
    for _ in range(DRAWS):
        drawn = rng.integers(len(conf), size=n)
        found = {
            "certified": certify_group(conf[drawn], agree[drawn], ALPHA, DELTA).threshold,
            "swept": swept_threshold(conf[drawn], agree[drawn], ALPHA),
        }
        for name, threshold in found.items():
            taken = conf >= (np.inf if threshold is None else threshold)
            figures[name].append(float(taken.mean()))
            broken[name] += bool(taken.any() and (~agree[taken]).mean() > ALPHA)
    return {
        f"{name}_{what}": value
        for name in figures
        for what, value in (
            ("coverage", float(np.mean(figures[name]))),
            ("violations", broken[name] / DRAWS),
        )
    }


def main() -> None:
    """Print one table."""
    folder = Path(os.environ.get("LOOP_BENCH_DATA", "../shared/data"))
    lines = []
    for load in (clinc150, banking77):
        if not (folder / load.__name__).is_dir():
            sys.stderr.write(f"{load.__name__} skipped: no {folder / load.__name__};")
            sys.stderr.write(" set LOOP_BENCH_DATA to the folder of the public sets\n")
            continue
        conf, agree = answers(*load(folder))
        known = {
            "set": load.__name__,
            "agreement": float(agree.mean()),
            "oracle": uncertified_coverage(conf, agree, ALPHA),
        }
        lines += [known | {"n": n} | measure(conf, agree, n) for n in SIZES]
    if lines:
        sys.stdout.write(pd.DataFrame(lines).round(3).to_string(index=False) + "\n")


if __name__ == "__main__":
    main()
