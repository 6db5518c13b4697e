"""A policy chosen on one part of an outcome table and played on another.

How the parts are made is in ``rehearsal``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loop_pipeline.confidence.certificate import Certificate, certify_group
from loop_pipeline.doctor.outcome_table import CertifiedGroup, OutcomeTable


def choose_model(
    name: str,
    certificates: dict[int, Certificate],
    table: OutcomeTable,
    own: NDArray[np.int64],
    score: dict[int, NDArray[np.float64]],
    reference: int,
) -> CertifiedGroup:
    """The model with which the group costs least, among the certified ones and the reference."""
    best, usd = None, float(table.cost[own, reference].mean()) if len(own) else np.inf
    for k, certificate in certificates.items():
        if certificate.threshold is None:
            continue
        serves = score[k][own] >= certificate.threshold
        _, paid = _routed(table, own, k, serves, reference)
        if paid.mean() < usd:
            best, usd = k, float(paid.mean())
    if best is not None:
        return CertifiedGroup(name, best, certificates[best], "certified")
    if not certificates:
        nothing = certify_group(np.empty(0), np.empty(0, dtype=bool), 0.05, 0.05)
        why = f"no model is cheaper than {table.models[reference]}"
        return CertifiedGroup(name, None, nothing.model_copy(update={"n": len(own)}), why)
    first = next(iter(certificates))
    nearest = max(certificates, key=lambda k: (certificates[k].accepted, k == first))
    found = certificates[nearest]
    reason = (
        found.reason
        if found.threshold is None
        else "certified, but a routed request would cost more than the reference's"
    )
    if len(certificates) > 1:
        reason = f"{table.models[nearest]}: {reason}"
    return CertifiedGroup(name, None, found, reason)


def _routed(
    table: OutcomeTable,
    rows: NDArray[np.int64],
    model: int,
    serves: NDArray[np.bool_],
    reference: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Who answers each row, and what it costs."""
    chosen = np.where(serves, model, reference)
    paid = table.cost[rows, chosen]
    if table.models[model] in table.score:  # its answer was needed to know
        paid = paid + np.where(serves, 0.0, table.cost[rows, model])
    return chosen, paid


def play_policy(
    table: OutcomeTable,
    rows: NDArray[np.int64],
    group: NDArray[np.object_],
    certified: list[CertifiedGroup],
    score: dict[int, NDArray[np.float64]],
    reference: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Who answers each of these rows by the certified groups, and what that costs."""
    chosen = np.full(len(rows), reference, dtype=np.int64)
    paid = table.cost[rows, reference].copy()
    for policy in certified:
        threshold = policy.certificate.threshold
        if policy.model is None or threshold is None:
            continue
        own = np.flatnonzero(group[rows] == policy.name)
        serves = score[policy.model][rows[own]] >= threshold
        chosen[own], paid[own] = _routed(table, rows[own], policy.model, serves, reference)
    return chosen, paid
