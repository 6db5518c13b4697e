"""Makes a policy for a table of outcomes by the loop's own machinery, and plays it.

Not here: what the result is worth (``examine.py``).

Rows are split by the hash of their text: the first part fits groups and scores, the second
certifies, the third is what every figure is measured on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from loop_pipeline.confidence.certificate import certify_group, shared_delta
from loop_pipeline.confidence.request_score import fit_request_score
from loop_pipeline.doctor.outcome_table import BadTable, Outcomes, OutcomeTable
from loop_pipeline.doctor.played_policy import choose_model, play_policy
from loop_pipeline.groups.clustering.fit import fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder, Floats
from loop_pipeline.groups.members import assign
from loop_pipeline.groups.registry import UNASSIGNED
from loop_pipeline.hashing import digest
from loop_pipeline.stats.binomial import smallest_certifiable

PARTS = ("fit", "calibration", "scored")
ENDS = (0.4, 0.7)  # where the first two parts end, as shares of the rows
ENDS_NOTHING_TO_FIT = (0.1, 0.55)  # groups and scores are in the table
ONE_TEMPLATE = "table"
UNLIKE_FROM = 0.01  # of the scored requests; so many are worth a note


@dataclass(frozen=True)
class _Parts:
    """Row numbers of each part, by name."""

    fit: NDArray[np.int64]
    calibration: NDArray[np.int64]
    scored: NDArray[np.int64]


def rehearse(
    table: OutcomeTable, *, target: float = 0.95, delta: float = 0.05, seed: int = 0
) -> Outcomes:
    """Fit, certify and play a policy: per group the cheapest certified model, else the reference.

    The reference is the best model on the fit rows. A cheaper one *agrees* where its answer is at
    least as good. delta is shared over all groups and models that have the rows for a promise.

    Args:
        table: the outcomes.
        target: agreement promised among what a cheaper model answers in a group.
        delta: chance that any promise is broken.
        seed: of the embedder and of the groups.

    Raises:
        BadTable: a part has no rows.
    """
    parts = _split(table)
    with threadpool_limits(1):  # sums in another order would give other vectors and other ranks
        vectors, group, notes = _grouped(table, parts, seed)
    quality, cost = table.quality, table.cost
    mean_cost = cost[parts.fit].mean(axis=0)
    reference = _best(quality[parts.fit], mean_cost)
    cheaper = [
        int(k) for k in np.argsort(mean_cost, kind="stable") if mean_cost[k] < mean_cost[reference]
    ]
    good = quality >= quality[:, [reference]] - 1e-12
    with threadpool_limits(1):
        scored = {k: _scores(table, parts, vectors, k, reference, seed) for k in cheaper}
    score = {k: values for k, (values, _) in scored.items()}
    unlike = max((share for _, share in scored.values()), default=0.0)
    alpha = round(1 - target, 12)
    tests = len(_tested(group[parts.calibration], alpha, delta)) * len(cheaper)
    share = shared_delta(delta, tests, 1)
    certified = []
    for name in sorted(set(group.tolist()) - {UNASSIGNED}):
        own = parts.calibration[group[parts.calibration] == name]
        offers = {k: certify_group(score[k][own], good[own, k], alpha, share) for k in cheaper}
        certified.append(choose_model(name, offers, table, own, score, reference))
    rows = parts.scored
    chosen, paid = play_policy(table, rows, group, certified, score, reference)
    weak = cheaper[0] if cheaper else reference
    after = table.models[weak] in table.score
    return Outcomes(
        source=table.source,
        models=table.models,
        reference=reference,
        weak=weak,
        quality=quality[rows],
        cost=cost[rows],
        length=np.array([len(table.texts[i]) for i in rows], dtype=float),
        group=group[rows],
        score=score[weak][rows] if cheaper else np.zeros(len(rows)),
        chosen=chosen,
        paid=paid,
        best_single=_best_by_group(quality, mean_cost, group, parts),
        certified=certified,
        target=target,
        delta=delta,
        after_answer=after,
        rows={name: len(getattr(parts, name)) for name in PARTS},
        notes=[*table.notes, *notes, *_score_notes(table, cheaper, unlike)],
    )


def _split(table: OutcomeTable) -> _Parts:
    place = np.array(
        [int(digest(" ".join(t.lower().split()))[:13], 16) / 16**13 for t in table.texts]
    )
    given = table.groups is not None and len(table.score) >= len(table.models) - 1
    which = np.searchsorted(ENDS_NOTHING_TO_FIT if given else ENDS, place, side="right")
    found = [np.flatnonzero(which == i) for i in range(len(PARTS))]
    if min(map(len, found)) == 0:
        sizes = ", ".join(f"{len(f)} to {n}" for n, f in zip(PARTS, found, strict=True))
        raise BadTable(f"{table.source}: the rows cannot be split by their text ({sizes})")
    return _Parts(*found)


def _best(quality: NDArray[np.float64], mean_cost: NDArray[np.float64]) -> int:
    """The model of the highest mean quality; of several the cheapest."""
    mean = quality.mean(axis=0).round(12)
    return int(np.lexsort((mean_cost, -mean))[0])


def _best_by_group(
    quality: NDArray[np.float64],
    mean_cost: NDArray[np.float64],
    group: NDArray[np.object_],
    parts: _Parts,
) -> NDArray[np.int64]:
    """The best single model of each scored row's group, chosen on rows that are not scored."""
    rows = np.concatenate([parts.fit, parts.calibration])
    overall = _best(quality[rows], mean_cost)
    best = {
        name: _best(quality[own], mean_cost)
        for name in set(group[rows].tolist())
        for own in [rows[group[rows] == name]]
    }
    return np.array([best.get(name, overall) for name in group[parts.scored]], dtype=np.int64)


def _grouped(
    table: OutcomeTable, parts: _Parts, seed: int
) -> tuple[Floats, NDArray[np.object_], list[str]]:
    """Vectors of all texts, and the table's groups or else clusters of the fit rows."""
    texts = table.texts
    notes = []
    try:
        embedder = Embedder.fit([texts[i] for i in parts.fit], seed=seed)
    except ValueError as error:
        raise BadTable(f"{table.source}: {error}") from None
    vectors = embedder.transform(texts)
    if table.groups is not None:
        return vectors, np.array(table.groups, dtype=object), notes
    frame = pd.DataFrame(
        {
            "prompt_id": [table.prompt_ids[i] for i in parts.fit],
            "text": [texts[i] for i in parts.fit],
            "template_hash": ONE_TEMPLATE,
            "task": None,
        }
    )
    groups = fit_groups(
        frame, embedder, previous=None, calibration_rows=len(parts.calibration), seed=seed
    )
    found = assign(groups, vectors, pd.Series([ONE_TEMPLATE] * len(texts)))
    names = {g.group_id: g.name for g in groups.groups}
    labels = [names[g] if g else UNASSIGNED for g, _ in found]
    notes.append(f"groups by clustering the texts of the fit rows: {len(groups.active)}")
    return vectors, np.array(labels, dtype=object), notes


def _scores(
    table: OutcomeTable, parts: _Parts, vectors: Floats, model: int, reference: int, seed: int
) -> tuple[NDArray[np.float64], float]:
    """Score of every row, and the share that are unlike what it was fitted on.

    The model's own confidence, or a score of the request alone.
    """
    given = table.score.get(table.models[model])
    if given is not None:
        return given, 0.0
    gain = table.quality[parts.fit, model] - table.quality[parts.fit, reference]
    fitted = fit_request_score(
        [table.texts[i] for i in parts.fit], vectors[parts.fit], gain, seed=seed
    )
    rows = parts.scored
    unlike = fitted.unlike([table.texts[i] for i in rows], vectors[rows])
    return fitted.values(table.texts, vectors), unlike


def _score_notes(table: OutcomeTable, cheaper: list[int], unlike: float) -> list[str]:
    own = [table.models[k] for k in cheaper if table.models[k] in table.score]
    rest = [table.models[k] for k in cheaper if table.models[k] not in table.score]
    notes = []
    if own:
        notes.append(
            f"{', '.join(own)}: by its confidence in its own answer, so a request that is passed "
            "on has paid for it too"
        )
    if rest:
        notes.append(f"{', '.join(rest)}: by a score of the request alone, before any call")
    if unlike >= UNLIKE_FROM:
        notes.append(
            f"{unlike:.0%} of the scored requests are unlike all that the score of requests was "
            "fitted on: these are ranked by their length, after the others"
        )
    return notes


def _tested(group: NDArray[np.object_], alpha: float, delta: float) -> list[str]:
    """Groups that share delta: those with rows enough for a promise if they were alone."""
    need = smallest_certifiable(alpha, shared_delta(delta, 1, 1))
    names, sizes = np.unique(group.astype(str), return_counts=True)
    return [
        str(n) for n, size in zip(names, sizes, strict=True) if size >= need and n != UNASSIGNED
    ]
