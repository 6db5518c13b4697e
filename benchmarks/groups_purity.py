"""Are the task groups the tasks?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.groups_purity [--encoder FOLDER]

CLINC150 and BANKING77, train parts, the true number of groups given; mean, least and most of three
seeds. NMI, and accuracy with groups matched to intents one to one. The control is scikit-learn's
TF-IDF (words 1-2, characters 3-5), SVD-200 and k-means. No label is looked at; the power of the
idf of ours was chosen on CLINC150.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from benchmarks.intents import (
    SEEDS,
    SETS,
    STARTS,
    Labels,
    embedded,
    encoder_asked_for,
    fitted,
    matched,
)
from benchmarks.record import Start, record, table
from loop_pipeline.groups.assignment import nearest
from loop_pipeline.groups.embedding.embedder import Floats, unit


def ours(source: str, texts: list[str], k: int) -> list[NDArray[np.intp]]:
    """Groups by our embedding, or an encoder's, and our k-means."""
    vectors = unit(embedded(source, texts, texts))
    return [nearest(vectors, fitted(vectors, k, seed))[0] for seed in range(SEEDS)]


def control(texts: list[str], k: int) -> list[NDArray[np.intp]]:
    """Groups by scikit-learn alone."""
    parts = [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True).fit_transform(
            texts
        ),
    ]
    projected = TruncatedSVD(200, random_state=7).fit_transform(hstack(parts).tocsr())
    plain: Floats = unit(np.asarray(projected, dtype=np.float32))
    return [
        KMeans(k, n_init=STARTS, random_state=seed).fit_predict(plain)  # pyright: ignore
        for seed in range(SEEDS)
    ]


def figures(found: list[NDArray[np.intp]], truth: Labels) -> dict[str, float]:
    """NMI and accuracy over the seeds."""
    row: dict[str, float] = {}
    for name, values in (
        ("NMI", [float(normalized_mutual_info_score(truth, f)) for f in found]),
        ("accuracy", [matched(f, truth) for f in found]),
    ):
        row |= {name: float(np.mean(values)), f"{name} low": min(values)}
        row |= {f"{name} high": max(values)}
    return row


def main() -> None:
    """Print a row a set and method, and write them down."""
    start, encoder = Start(), encoder_asked_for()
    lines: list[dict[str, Any]] = []
    for name, read in SETS.items():
        texts, truth = read()
        k = len(set(truth))
        known = {"set": name, "n": len(texts), "groups": k}
        found = {"without weights": ours("", texts, k)}
        if encoder:
            found[Path(encoder).name] = ours(encoder, texts, k)
        lines += [
            known | {"embedding": kind, "kind": "ours"} | figures(groups, truth)
            for kind, groups in found.items()
        ]
        plain = {"embedding": "scikit-learn's TF-IDF and SVD", "kind": "control"}
        lines.append(known | plain | figures(control(texts, k), truth))
    sys.stdout.write(pd.DataFrame(lines).round(3).to_string(index=False) + "\n")
    record(__file__, __doc__, [table("k-means with k given", lines)], start)


if __name__ == "__main__":
    main()
