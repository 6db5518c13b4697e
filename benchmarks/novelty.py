"""Is a fifth of novel requests in a window of 500 seen, and how often is there a false alarm?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.novelty [windows a domain]

CLINC150: each of its ten domains is unseen in turn. Embedder and clusters are fitted on the train
part of the other nine; 2,000 reference requests and the windows come from validation and test.
Beside it, unchanged traffic in which three requests of one intent follow each other, as the turns
of a conversation do: compared by conversations, by stretches of ten requests, by single requests.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from benchmarks.data import load
from benchmarks.record import Start, record, table
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.stats.mmd import novelty

WINDOW = 500
REFERENCE = 2_000
NOVEL = 0.2
BURST = 3
REPEATS = 60
LEVEL = 0.05
TEXTBOOK_PSI = 0.2
CLUSTERS = 60
PERMUTATIONS = 200

Vectors = NDArray[np.float32]
Clusters = NDArray[np.int64]


def psi(window: Clusters, reference: Clusters) -> float:
    """Population stability index over clusters, half a row added to each."""
    shares = []
    for rows in (window, reference):
        count = np.bincount(rows, minlength=CLUSTERS) + 0.5
        shares.append(count / count.sum())
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def psi_p_value(window: Clusters, reference: Clusters, seed: int) -> float:
    """Its p-value over permutations of who is in the window."""
    rng, pooled, seen = np.random.default_rng(seed), np.concatenate([window, reference]), 0
    least = psi(window, reference)
    for _ in range(PERMUTATIONS):
        mixed = rng.permutation(pooled)
        seen += psi(mixed[: len(window)], mixed[len(window) :]) >= least
    return (seen + 1) / (PERMUTATIONS + 1)


def alarms(known: Vectors, novel: Vectors, model: Any, seed: int) -> dict[str, float]:
    """Which detectors ring for one window without and one with novel requests."""
    rng = np.random.default_rng(seed)
    rows = known[rng.permutation(len(known))[: REFERENCE + WINDOW]]
    reference, window = rows[:REFERENCE], rows[REFERENCE:]
    mixed = window.copy()
    count = int(NOVEL * WINDOW)
    mixed[:count] = novel[rng.permutation(len(novel))[:count]]
    rings: dict[str, float] = {}
    for kind, requests in (("false", window), ("power", mixed)):
        start = time.perf_counter()
        result = novelty(requests, reference, seed=10**6 + seed)  # no draw shared with rng
        took = time.perf_counter() - start
        own, others = (model.predict(v).astype(np.int64) for v in (requests, reference))
        index = psi(own, others)
        rings |= {
            f"MMD {kind}": float(result.p_value is not None and result.p_value <= LEVEL),
            f"PSI > {TEXTBOOK_PSI} {kind}": float(index > TEXTBOOK_PSI),
            f"PSI permuted {kind}": float(psi_p_value(own, others, seed) <= LEVEL),
            f"PSI {kind} mean": index,
            "seconds": took,
        }
    return rings


def in_bursts(known: Vectors, intents: NDArray[np.int64], seed: int) -> dict[str, float]:
    """What rings although nothing has changed, in traffic in bursts."""
    rng = np.random.default_rng(seed)
    of_intent = [known[intents == number] for number in range(int(intents.max()) + 1)]

    def traffic(rows: int) -> Vectors:
        topics = rng.integers(len(of_intent), size=-(-rows // BURST))
        drawn = [rng.choice(of_intent[t], BURST, replace=False) for t in topics]
        return np.concatenate(drawn)[:rows]

    window, reference = traffic(WINDOW), traffic(REFERENCE)
    units: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]] | tuple[()]] = {
        "by conversations": (np.arange(WINDOW) // BURST, np.arange(REFERENCE) // BURST),
        "by stretches of ten": (),
        "by single requests": (np.arange(WINDOW), np.arange(REFERENCE)),
    }
    found = {}
    for name, sides in units.items():
        p_value = novelty(window, reference, *sides, seed=10**6 + seed).p_value
        found[name] = float(p_value is not None and p_value <= LEVEL)
    return found


def main(repeats: int = REPEATS) -> None:
    """Print a row per unseen domain and one for all, and write them down."""
    start, bursts = Start(), []
    data = json.loads(load("clinc150", "data_full.json.gz"))
    lines: list[dict[str, Any]] = []
    for number, (name, intents) in enumerate(json.loads(load("clinc150", "domains.json")).items()):
        unseen = set(intents)
        train = [text for text, intent in data["train"] if intent not in unseen]
        pool = data["val"] + data["test"]
        embedder = Embedder.fit(train, seed=0)
        model = MiniBatchKMeans(CLUSTERS, random_state=0).fit(embedder.transform(train))
        known = embedder.transform([text for text, intent in pool if intent not in unseen])
        novel = embedder.transform([text for text, intent in pool if intent in unseen])
        draws = [alarms(known, novel, model, 1_000 * number + r) for r in range(repeats)]
        seen = pd.factorize(pd.Series([intent for _, intent in pool if intent not in unseen]))[0]
        bursts += [in_bursts(known, seen, 1_000 * number + r) for r in range(repeats)]
        lines.append({"unseen": name} | {str(k): v for k, v in pd.DataFrame(draws).mean().items()})
    frame = pd.DataFrame(lines)
    whole = {"unseen": "all"} | frame.drop(columns="unseen").mean().to_dict()
    frame = pd.concat([frame, pd.DataFrame([whole])])
    note = (
        f"{repeats} windows of {WINDOW} requests with and {repeats} without novel ones a domain, "
        f"{NOVEL:.0%} of them novel; the test's level is {LEVEL:.0%}."
    )
    sys.stdout.write(f"{note}\n{frame.round(3).to_string(index=False)}\n")
    units = {c: "share" for c in frame if c.endswith((" false", " power"))}
    tables = [table("How often each detector rings", frame, units | {"seconds": "s"})]
    rings = pd.DataFrame(bursts).mean().rename("rings").rename_axis("compared").reset_index()
    rings.insert(1, "kind", np.where(rings["compared"] == "by single requests", "control", "ours"))
    title = f"Unchanged traffic in bursts of {BURST}, {len(bursts)} windows"
    sys.stdout.write(f"{title}\n{rings.round(3).to_string(index=False)}\n")
    tables.append(table(title, rings, {"rings": "share"}))
    record(__file__, __doc__, tables, start, notes=[note])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
