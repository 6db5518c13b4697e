"""Requests with known intents, and task groups of them, for the benchmarks of grouping."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.data import load
from loop_pipeline.groups.clustering.kmeans import best_kmeans
from loop_pipeline.groups.embedding.ask_encoder import ask_process
from loop_pipeline.groups.embedding.embedder import Floats
from loop_pipeline.groups.embedding.model_embedder import fit_embedder

STARTS = 5
SEEDS = 3
PYTHON = Path(sys.executable)
ASKED: dict[str, Floats] = {}
Labels = NDArray[np.object_]


def encoder_asked_for() -> str:
    """Folder of a sentence encoder that the command line names, or nothing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--encoder", default="", help="folder of a sentence encoder")
    return parser.parse_args().encoder


def clinc(part: str) -> tuple[list[str], Labels]:
    """Requests and intents of a part of CLINC150."""
    rows = json.loads(load("clinc150", "data_full.json.gz"))[part]
    return [text for text, _ in rows], np.array([intent for _, intent in rows], dtype=object)


def banking() -> tuple[list[str], Labels]:
    """Requests and intents of the train part of BANKING77."""
    rows = list(csv.DictReader(io.StringIO(load("banking77", "train.csv.gz").decode())))
    intents = np.array([row["category"] for row in rows], dtype=object)
    return [row["text"] for row in rows], intents


SETS: dict[str, Callable[[], tuple[list[str], Labels]]] = {
    "CLINC150": lambda: clinc("train"),
    "BANKING77": banking,
}


def embedded(source: str, known: list[str], texts: list[str]) -> Floats:
    """Vectors of texts by an embedder fitted on ``known``; an encoder is asked once a text."""
    if not source:
        return fit_embedder("", known, 7).transform(texts)
    missing = [t for t in dict.fromkeys(texts) if t not in ASKED]
    if missing:
        ASKED.update(zip(missing, ask_process(missing, source, PYTHON), strict=True))
    return np.stack([ASKED[t] for t in texts])


def fitted(vectors: Floats, k: int, seed: int) -> Floats:
    """The best of a few k-means fits by its own measure, the mean cosine; no label is looked at."""
    return best_kmeans(vectors, vectors[:0], k, np.random.default_rng(seed), STARTS)


def matched(found: NDArray[np.intp], truth: Labels) -> float:
    """Share of rows in the right group, groups matched to labels one to one."""
    table = pd.crosstab(found, truth).to_numpy()
    return float(table[linear_sum_assignment(-table)].sum() / len(truth))
