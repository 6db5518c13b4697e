"""Are requests seen that belong to no group?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.groups_strange [--encoder FOLDER]

Out-of-scope requests of CLINC150 that no group takes, and in-scope test requests that none takes
either. The cut of what counts as strange comes from in-scope training requests that the groups were
not fitted on. As in the loop: by familiarity first, then by distance. The controls cut by distance
alone, for each group or once for all.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.intents import clinc, embedded, encoder_asked_for, fitted
from benchmarks.record import Start, record, table
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder, Floats, unit
from loop_pipeline.groups.members import member_rows, nearest
from loop_pipeline.groups.registry import UNASSIGNED

# Later traffic lies farther out than training requests do: a cut at 5% gives more than 5%.
FALSE = (0.05, 0.035)


def strange(encoder: str) -> list[dict[str, Any]]:
    """Out-of-scope requests of CLINC150 that no group takes, at 5% false alarms."""
    texts, truth = clinc("train")
    held = np.random.default_rng(0).random(len(texts)) < 0.2
    known, tests = [t for t, h in zip(texts, held, strict=True) if not h], clinc("test")[0]
    outside = clinc("oos_test")[0]
    lines: list[dict[str, Any]] = []
    for kind, source in (("without weights", ""), ("encoder", encoder)):
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
                lines += [
                    {
                        "embedding": kind,
                        "cut": f"by distance, {name}, {false:.1%} of in-scope rows",
                        "kind": "control",
                        "groups": k,
                        **row,
                    }
                    for name, row in found.items()
                ]
    return [_strange_in_the_loop(texts, tests, outside), *lines]


def _strange_in_the_loop(texts: list[str], tests: list[str], outside: list[str]) -> dict[str, Any]:
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
    return {
        "embedding": "without weights",
        "cut": "as in the loop",
        "kind": "ours",
        "groups": len(groups.active),
        "seen": recall,
        "false alarms": false,
    }


def _rejected(
    centroids: Floats, cut: Floats, inside: Floats, alien: Floats, false: float
) -> dict[str, dict[str, float]]:
    """False alarms and recall by a cut for each group, and by one for all."""
    cut, inside, alien = (unit(v) for v in (cut, inside, alien))
    (label, cosine), told = nearest(cut, centroids), {}
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
        told[name] = {"seen": shares[1], "false alarms": shares[0]}
    return told


def main() -> None:
    """Print a row a cut, and write them down."""
    start, lines = Start(), strange(encoder_asked_for())
    sys.stdout.write(pd.DataFrame(lines).round(3).to_string(index=False) + "\n")
    units = {"seen": "share", "false alarms": "share"}
    title = "Out-of-scope requests that no group takes"
    record(__file__, __doc__, [table(title, lines, units)], start)


if __name__ == "__main__":
    main()
