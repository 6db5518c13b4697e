"""How long do a million assignments take, and a grouping from scratch?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.groups_speed

A million random vectors to twelve groups of two templates with twelve leaves each; then 200,000
distinct requests, two of one CLINC150 intent one after the other, embedded and grouped.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.intents import clinc
from benchmarks.record import Start, record, table
from loop_pipeline.groups.assignment import Assigner
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.clustering.kmeans import rounded
from loop_pipeline.groups.embedding.embedder import DIMENSIONS, Embedder, unit
from loop_pipeline.groups.members import leaves_of, member_rows
from loop_pipeline.groups.registry import Group, Groups


def assigned() -> dict[str, Any]:
    """A million vectors assigned."""
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((1_000_000, DIMENSIONS), dtype=np.float32))
    groups = Groups(embedder_version="e", groups=_made_up(rng))
    templates = pd.Series(np.array(["t0", "t1"], dtype=object)[rng.integers(0, 2, len(vectors))])
    start = time.monotonic()
    ids, _ = Assigner(groups.active).many(vectors, templates.tolist())
    leaves_of(groups, vectors, ids)
    return {
        "what": "vectors assigned",
        "n": len(vectors),
        "groups": len(groups.active),
        "leaves": len(groups.leaves),
        "time": time.monotonic() - start,
    }


def grouped() -> dict[str, Any]:
    """200,000 requests grouped from scratch."""
    texts = _many(200_000)
    frame = pd.DataFrame({"text": texts}).assign(template_hash="t", task=None)
    frame["prompt_id"] = [f"p{i:06d}" for i in range(len(texts))]
    start = time.monotonic()
    embedder = Embedder.fit(texts, seed=7)
    vectors = embedder.project(texts)
    embedded = time.monotonic() - start
    found = fit_groups(frame, embedder, previous=None, calibration_rows=30_000, vectors=vectors)
    member_rows(found, frame, embedder, vectors)
    return {
        "what": "requests grouped from scratch",
        "n": len(texts),
        "groups": len(found.active),
        "leaves": len(found.leaves),
        "time": time.monotonic() - start,
        "of it embedding": embedded,
    }


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


def main() -> None:
    """Print two rows, and write them down."""
    start, lines = Start(), [assigned(), grouped()]
    sys.stdout.write(pd.DataFrame(lines).round(1).to_string(index=False) + "\n")
    units = {"time": "s", "of it embedding": "s"}
    record(__file__, __doc__, [table("One run", lines, units)], start)


if __name__ == "__main__":
    main()
