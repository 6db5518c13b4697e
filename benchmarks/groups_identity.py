"""Do requests keep their group over a refit?

    LOOP_BENCH_DATA=../shared/data python -m benchmarks.groups_identity [--encoder FOLDER]

CLINC150 and BANKING77, train parts, the true number of groups given; a fit on four fifths of the
rows, then a refit on four fifths that share three quarters with them; the share of the shared
requests that keep their group, mean, least and most of three seeds. The control is an independent
fit whose groups are matched to the old ones (Hungarian method on the shared requests). Then the
same through the loop's own fit, which chooses the number of groups and has leaves.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.intents import SEEDS, SETS, embedded, encoder_asked_for, fitted, matched
from benchmarks.record import Start, record, table
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.clustering.kmeans import kmeans
from loop_pipeline.groups.embedding.embedder import Embedder, Floats, unit
from loop_pipeline.groups.members import member_rows, nearest

Rows = NDArray[np.intp]


def kept(vectors: Floats, first: Rows, second: Rows, k: int) -> list[dict[str, Any]]:
    """Shares that keep their group: by a refit from the old groups, and by a fresh fit, matched."""
    both, shares = np.intersect1d(first, second), {"ours": [], "control": []}
    for seed in range(SEEDS):
        old = fitted(vectors[first], k, seed)
        before = nearest(vectors[both], old)[0]
        warm = nearest(vectors[both], kmeans(vectors[second], old))[0]
        shares["ours"].append(float((before == warm).mean()))
        fresh = nearest(vectors[both], fitted(vectors[second], k, seed + 100))[0]
        shares["control"].append(matched(fresh, before.astype(object)))
    return [
        {
            "refit": "from the old groups" if kind == "ours" else "independent, matched",
            "kind": kind,
            "n": len(both),
            "groups": k,
            "keep their group": float(np.mean(values)),
            "keep their group low": min(values),
            "keep their group high": max(values),
        }
        for kind, values in shares.items()
    ]


def _identity_of_groups(
    name: str,
    texts: list[str],
    first: Rows,
    second: Rows,
    both: Rows,
) -> dict[str, Any]:
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
    return {
        "set": name,
        "groups": len(old.active),
        "groups after": len(new.active),
        "keep their group": by_name["group_id"],
        "leaves": len(old.leaves),
        "leaves after": len(new.leaves),
        "keep their leaf": by_name["leaf_id"],
    }


def main() -> None:
    """Print two tables, and write them down."""
    start, encoder = Start(), encoder_asked_for()
    given: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    for name, read in SETS.items():
        texts, truth = read()
        order = np.random.default_rng(0).permutation(len(texts))
        first, second = order[: int(0.8 * len(order))], order[int(0.2 * len(order)) :]
        known = [texts[i] for i in first]
        for kind, source in (("without weights", ""), ("encoder", encoder)):
            if source or kind == "without weights":
                vectors = unit(embedded(source, known, texts))
                found = kept(vectors, first, second, len(set(truth)))
                given += [{"set": name, "embedding": kind} | row for row in found]
        both = np.intersect1d(first, second)
        chosen.append(_identity_of_groups(name, texts, first, second, both))
    tables = []
    for title, lines in (("The true number of groups", given), ("As in the loop", chosen)):
        sys.stdout.write(f"{title}\n{pd.DataFrame(lines).round(3).to_string(index=False)}\n\n")
        units = dict.fromkeys(("keep their group", "keep their leaf"), "share")
        tables.append(table(title, lines, units))
    record(__file__, __doc__, tables, start)


if __name__ == "__main__":
    main()
