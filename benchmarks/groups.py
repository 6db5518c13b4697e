"""Are the task groups the tasks, do their ids last, is strange traffic seen, and is it fast?

    python -m benchmarks.groups [--encoder FOLDER] [purity] [identity] [strange] [speed]

CLINC150 and BANKING77, train parts, the true number of groups given. Controls: scikit-learn's
TF-IDF (words 1-2, characters 3-5), SVD-200 and k-means; for identity an independent fit whose
groups are matched to the old ones (Hungarian method on the shared requests); for strange requests
one cut for all groups. The cut of what counts as strange comes from in-scope training requests that
the groups were not fitted on.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import hstack
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from benchmarks.data import load
from loop_pipeline.groups.assignment import Assigner, nearest
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.clustering.kmeans import best_kmeans, kmeans, rounded
from loop_pipeline.groups.embedding.ask_encoder import ask_process
from loop_pipeline.groups.embedding.embedder import DIMENSIONS, Embedder, Floats, unit
from loop_pipeline.groups.embedding.model_embedder import fit_embedder
from loop_pipeline.groups.members import leaves_of, member_rows
from loop_pipeline.groups.registry import UNASSIGNED, Group, Groups

STARTS, SEEDS = 5, 3
# Later traffic lies farther out than training requests do: a cut at 5% gives more than 5%.
FALSE = (0.05, 0.035)
PYTHON = Path(sys.executable)
ASKED: dict[str, Floats] = {}
Labels = NDArray[np.object_]


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


def purity(encoder: str) -> Iterator[str]:
    """NMI and accuracy with k given, mean over seeds."""
    for name, read in SETS.items():
        texts, truth = read()
        k = len(set(truth))
        kinds = {"ours, weightless": "", f"encoder {Path(encoder).name}": encoder}
        for kind, source in kinds.items():
            if source or kind.startswith("ours"):
                vectors = unit(embedded(source, texts, texts))
                found = [nearest(vectors, fitted(vectors, k, s))[0] for s in range(SEEDS)]
                yield _figures(f"{name}  {kind}", found, truth)
        parts = [
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts),
            TfidfVectorizer(
                analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True
            ).fit_transform(texts),
        ]
        projected = TruncatedSVD(200, random_state=7).fit_transform(hstack(parts).tocsr())
        plain = unit(np.asarray(projected, dtype=np.float32))
        found = []
        for seed in range(SEEDS):
            control = KMeans(k, n_init=STARTS, random_state=seed)  # pyright: ignore[reportArgumentType]
            found.append(control.fit_predict(plain))
        yield _figures(f"{name}  control, scikit-learn", found, truth)


def _figures(name: str, found: list[NDArray[np.intp]], truth: Labels) -> str:
    nmi = [float(normalized_mutual_info_score(truth, f)) for f in found]
    right = [matched(f, truth) for f in found]
    return (
        f"{name:44} NMI {np.mean(nmi):.3f} [{min(nmi):.3f}, {max(nmi):.3f}]  "
        f"ACC {np.mean(right):.3f} [{min(right):.3f}, {max(right):.3f}]"
    )


def identity(encoder: str) -> Iterator[str]:
    """Share of the shared requests that keep their group over a refit on 75% shared rows."""
    for name, read in SETS.items():
        texts, truth = read()
        order = np.random.default_rng(0).permutation(len(texts))
        first, second = order[: int(0.8 * len(order))], order[int(0.2 * len(order)) :]
        both = np.intersect1d(first, second)
        k = len(set(truth))
        for kind, source in (("weightless", ""), ("encoder", encoder)):
            if kind == "encoder" and not encoder:
                continue
            known = [texts[i] for i in first]
            vectors = unit(embedded(source, known, texts))
            kept, alone = [], []
            for seed in range(SEEDS):
                old = fitted(vectors[first], k, seed)
                before = nearest(vectors[both], old)[0]
                warm = nearest(vectors[both], kmeans(vectors[second], old))[0]
                kept.append(float((before == warm).mean()))
                fresh = nearest(vectors[both], fitted(vectors[second], k, seed + 100))[0]
                alone.append(matched(fresh, before.astype(object)))
            yield (
                f"{name}  {kind:12} k = {k:4}  identity kept {np.mean(kept):.3f} "
                f"[{min(kept):.3f}, {max(kept):.3f}]; independent fit, matched {np.mean(alone):.3f}"
            )
            if kind == "weightless":
                yield from _identity_of_groups(name, texts, first, second, both)


def _identity_of_groups(
    name: str,
    texts: list[str],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    both: NDArray[np.intp],
) -> Iterator[str]:
    """The same through ``fit_groups``: number of groups, leaves and all rules as in the loop."""
    frame = pd.DataFrame({"text": texts}).assign(template_hash="t", task=None, new=True)
    frame["prompt_id"] = [f"p{i:06d}" for i in range(len(texts))]
    embedder = Embedder.fit([texts[i] for i in first], seed=7)
    old = fit_groups(frame.iloc[first], embedder, previous=None, calibration_rows=9_600)
    later = frame.iloc[second].assign(new=~np.isin(second, first))
    new = fit_groups(later, embedder, previous=old, calibration_rows=9_600)
    rows = [member_rows(g, frame.iloc[both], embedder) for g in (old, new)]
    same = [float((rows[0][c].eq(rows[1][c]) | rows[0][c].isna()).mean()) for c in rows[0].columns]
    by_name = dict(zip(rows[0].columns, same, strict=True))
    yield (
        f"{name}  as in the loop: {len(old.active)} groups, then {len(new.active)}: "
        f"{by_name['group_id']:.3f} keep their group; {len(old.leaves)} leaves, then "
        f"{len(new.leaves)}: {by_name['leaf_id']:.3f} keep their leaf"
    )


def strange(encoder: str) -> Iterator[str]:
    """Out-of-scope requests of CLINC150 that no group takes, at 5% false alarms."""
    texts, truth = clinc("train")
    held = np.random.default_rng(0).random(len(texts)) < 0.2
    known, tests = [t for t, h in zip(texts, held, strict=True) if not h], clinc("test")[0]
    outside = clinc("oos_test")[0]
    for kind, source in (("weightless", ""), ("encoder", encoder)):
        if kind == "encoder" and not encoder:
            continue
        held_out = [t for t, h in zip(texts, held, strict=True) if h]
        everything = embedded(source, known, [*known, *held_out, *tests, *outside])
        ends = np.cumsum([len(known), len(held_out), len(tests)])
        fit, cut, inside, alien = np.split(everything, ends)
        for k in (10, len(set(truth)), 300):
            centroids = fitted(unit(fit), k, 0)
            for false in FALSE:
                found = _rejected(centroids, cut, inside, alien, false)
                yield f"{kind:10} {k:4} groups, cut at {false:.1%} of in-scope rows: {found}"
    yield _strange_in_the_loop(texts, tests, outside)


def _strange_in_the_loop(texts: list[str], tests: list[str], outside: list[str]) -> str:
    """The same by ``fit_groups`` with its own cuts: familiarity first, then distance."""

    def rows(some: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame({"text": some}).assign(template_hash="t", task=None)
        return frame.assign(prompt_id=[f"p{i:06d}" for i in range(len(some))])

    embedder = Embedder.fit(texts, seed=7)
    groups = fit_groups(rows(texts), embedder, previous=None, calibration_rows=9_600)
    false, recall = (
        float((member_rows(groups, rows(part), embedder)["group_id"] == UNASSIGNED).mean())
        for part in (tests, outside)
    )
    return f"as in the loop, {len(groups.active)} groups: recall {recall:.3f} at {false:.3f} false"


def _rejected(centroids: Floats, cut: Floats, inside: Floats, alien: Floats, false: float) -> str:
    """False alarms and recall by a cut for each group, and by one for all."""
    cut, inside, alien = (unit(v) for v in (cut, inside, alien))
    (label, cosine), told = nearest(cut, centroids), []
    whole = float(np.quantile(1 - cosine, 1 - false))
    own = np.full(len(centroids), whole)
    for i in range(len(centroids)):
        if (label == i).sum() >= 20:
            own[i] = np.quantile(1 - cosine[label == i], 1 - false)
    for name, radius in (("cut by group", own), ("one cut", np.full(len(centroids), whole))):
        shares = []
        for vectors in (inside, alien):
            near, similar = nearest(vectors, centroids)
            shares.append(float((1 - similar > radius[near]).mean()))
        told.append(f"{name}: recall {shares[1]:.3f} at {shares[0]:.3f} false")
    return "; ".join(told)


def speed(_encoder: str) -> Iterator[str]:
    """A million vectors assigned; 200,000 requests grouped from scratch."""
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((1_000_000, DIMENSIONS), dtype=np.float32))
    groups = Groups(embedder_version="e", groups=_made_up(rng))
    templates = pd.Series(np.array(["t0", "t1"], dtype=object)[rng.integers(0, 2, len(vectors))])
    start = time.monotonic()
    ids, _ = Assigner(groups.active).many(vectors, templates.tolist())
    leaves_of(groups, vectors, ids)
    yield (
        f"1,000,000 vectors to {len(groups.active)} groups and {len(groups.leaves)} leaves: "
        f"{time.monotonic() - start:.1f} s"
    )
    del vectors
    texts = _many(200_000)
    frame = pd.DataFrame({"text": texts}).assign(template_hash="t", task=None)
    frame["prompt_id"] = [f"p{i:06d}" for i in range(len(texts))]
    start = time.monotonic()
    embedder = Embedder.fit(texts, seed=7)
    vectors = embedder.project(texts)
    embedded = time.monotonic() - start
    found = fit_groups(frame, embedder, previous=None, calibration_rows=30_000, vectors=vectors)
    member_rows(found, frame, embedder, vectors)
    yield (
        f"200,000 requests from scratch: {time.monotonic() - start:.0f} s, of them {embedded:.0f} "
        f"for the embedding; {len(found.active)} groups, {len(found.leaves)} leaves"
    )


def _made_up(rng: np.random.Generator) -> list[Group]:
    """Twelve groups of two templates with twelve leaves each."""
    groups = []
    for i in range(12):
        for j in range(13):
            centroid = unit(rng.standard_normal((1, DIMENSIONS), dtype=np.float32))[0]
            parent = None if j == 0 else f"g{i}"
            name = f"g{i}" if j == 0 else f"g{i}-{j}"
            groups.append(
                Group(
                    group_id=name,
                    template_hash=f"t{i % 2}",
                    centroid=rounded(centroid),
                    radius=2.0,
                    size=1,
                    parent_id=parent,
                )
            )
    return groups


def _many(rows: int) -> list[str]:
    """Distinct requests: two of one CLINC150 intent, one after the other."""
    texts, truth = clinc("train")
    rng = np.random.default_rng(0)
    by_intent = {i: np.flatnonzero(truth == i) for i in sorted(set(truth))}
    places = [by_intent[i] for i in rng.choice(sorted(by_intent), rows)]
    pairs = (rng.choice(own, 2, replace=False) for own in places)
    return [f"{texts[a]}. {texts[b]}" for a, b in pairs]


PARTS = {"purity": purity, "identity": identity, "strange": strange, "speed": speed}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--encoder", default="", help="folder of a sentence encoder")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        for line in PARTS[name](options.encoder):
            sys.stdout.write(f"{name:9} {line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
