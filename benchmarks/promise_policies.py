"""Policies fitted on rows of a known world, as the loop fits them (``fit_policy``).

Not here: whether their promises hold (``promise_certificates.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.promise_worlds import DELTA, INDEPENDENT, TARGET, Rows, rows
from loop_pipeline.groups.registry import Group, Groups
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_fit import fit_policy
from loop_pipeline.routing.promise_round import NotEnoughRows

NAMES = tuple(f"g{i}" for i in range(6))
# Too few for a fitted score: answers are ranked by their log-probability, which is the score.
VALIDATION = 20


def task_groups(names: Sequence[str]) -> Groups:
    """Task groups as the registry knows them."""
    groups = [
        Group(group_id=g, name=g, template_hash="t", centroid=[1.0, 0.0], radius=1.0, size=1)
        for g in names
    ]
    return Groups(embedder_version="e", groups=groups)


def answers(drawn: Mapping[str, Rows], split: str = "calibration") -> pd.DataFrame:
    """A student's answers to held-out requests, as ``held_out_answers`` gives them."""
    parts = [_answers(own, name).assign(split=split) for name, own in drawn.items()]
    return pd.concat([*parts, _validation()], ignore_index=True)


def _answers(own: Rows, group: str) -> pd.DataFrame:
    n = len(own.score)
    return _frame(own.score, ~own.wrong).assign(
        prompt_id=[f"{group}-{i:05d}" for i in range(n)],
        group_id=group,
        unit=[f"{group}-u{unit}" for unit in own.unit],
        times=own.times,
    )


def _validation() -> pd.DataFrame:
    score = np.linspace(0, 1, VALIDATION)
    return _frame(score, score > 0).assign(
        prompt_id=[f"v{i}" for i in range(VALIDATION)],
        group_id=NAMES[0],
        split="validation",
        unit=[f"v{i}" for i in range(VALIDATION)],
        times=1,
    )


def _frame(score: np.ndarray, agrees: np.ndarray) -> pd.DataFrame:
    sure = score - 1.0
    names = ("sum", "min", "p10", "mean")
    return pd.DataFrame(
        {f"logprob_{name}": sure for name in names}
        | {"agrees": agrees, "output": "a", "finish_reason": "stop", "tokens_out": 1}
    )


def fitted(drawn: Mapping[str, Rows], previous: PolicyBundle | None = None) -> PolicyBundle | None:
    """The policy of one student on these rows; None: too few for any promise."""
    facts: dict[str, Any] = {
        "student": {"checkpoint_id": "c", "adapter": "student-c"},
        "frontier": {"model": "frontier"},
        "costs": {},
        "versions": {"detector": "1"},
        "embedder_path": "embedder",
    }
    promise = {"target_agreement": TARGET, "delta": DELTA}
    try:
        return fit_policy(
            answers(drawn), task_groups([*drawn]), previous=previous, **promise, **facts
        )
    except NotEnoughRows:
        return None


def serving_policy(groups: Sequence[str]) -> PolicyBundle:
    """A policy that serves the student in each of these groups."""
    rng = np.random.default_rng(1)
    bundle = fitted({name: rows(rng, INDEPENDENT, 4_000) for name in groups})
    if bundle is None or len(thresholds(bundle)) < len(groups):
        raise RuntimeError("4,000 good rows a group give no certificate: nothing can be judged")
    return bundle


def thresholds(bundle: PolicyBundle | None) -> dict[str, float]:
    """Scores (as drawn, 0 to 1) from which on each certified group is served."""
    if bundle is None:
        return {}
    return {
        g.group_id: g.threshold + 1.0
        for g in bundle.groups
        if g.arm == "student" and g.threshold is not None
    }
