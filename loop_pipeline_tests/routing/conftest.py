"""A small world with known truth: two templates, a student that knows when it is sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from loop_pipeline.groups.clustering.fit import Groups, fit_groups
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.groups.members import member_rows
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.routing.policy_fit import fit_policy
from loop_pipeline.routing.policy_from_store import frontier_only

WORDS = [
    "flight",
    "hotel",
    "card",
    "bank",
    "invoice",
    "refund",
    "doctor",
    "clinic",
    "ticket",
    "loan",
    "seat",
    "visa",
]


def make_answers(n: int = 3_000, seed: int = 0, wrong: float = 0.06) -> pd.DataFrame:
    """Requests and the student's answers; sure answers are mostly right."""
    rng = np.random.default_rng(seed)
    agrees = rng.random(n) > wrong
    total = np.where(agrees, -rng.exponential(0.2, n), -0.3 - rng.exponential(2.0, n))
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i:05d}" for i in range(n)],
            "text": [" ".join(rng.choice(WORDS, 6)) for _ in range(n)],
            "template_hash": np.where(rng.random(n) < 0.8, "aa", "bb"),
            "task": "support",
            "split": rng.choice(["validation", "calibration", "gold"], n, p=[0.15, 0.55, 0.3]),
            "output": "refund",
            "frontier_output": "refund",
            "agrees": agrees,
            "logprob_min": total,
            "logprob_p10": total,
            "logprob_mean": total / 3,
            "logprob_sum": total,
            "tokens_in": rng.integers(20, 60, n),
            "tokens_out": 3,
            "finish_reason": "stop",
            "latency_ms": 1.0,
        }
    )


class World:
    """Everything a policy is fitted from."""

    def __init__(self) -> None:
        self.answers = make_answers()
        self.embedder = Embedder.fit(self.answers["text"].tolist(), seed=0)
        self.groups: Groups = fit_groups(
            self.answers, self.embedder, previous=None, calibration_rows=1_650
        )
        members = member_rows(self.groups, self.answers, self.embedder)
        self.answers = self.answers.merge(members[["prompt_id", "group_id"]])

    def fit(
        self,
        answers: pd.DataFrame | None = None,
        previous: PolicyBundle | None = None,
        **changes: Any,
    ) -> PolicyBundle:
        """A policy, with some arguments changed."""
        plain: dict[str, Any] = {
            "target_agreement": 0.95,
            "delta": 0.05,
            "student": {"checkpoint_id": "c1", "adapter": "student-c1"},
            "frontier": {"model": "big"},
            "costs": {
                "frontier_usd_per_request": {g.group_id: 0.01 for g in self.groups.active},
                "student_usd_per_request": 0.0002,
            },
            "versions": {"detector": "1"},
            "embedder_path": "embedder.npz",
        }
        rows = self.answers if answers is None else answers
        groups = changes.pop("groups", self.groups)
        return fit_policy(rows, groups, previous=previous, **(plain | changes))

    def frontier_only(self, reason: str = "the student was refused: why") -> PolicyBundle:
        """The policy while no student is good enough."""
        return frontier_only(
            self.groups,
            reason=reason,
            target_agreement=0.95,
            delta=0.05,
            frontier={"model": "big"},
            costs={"frontier_usd_per_request": {g.group_id: 0.01 for g in self.groups.active}},
            versions={"detector": "1"},
            embedder_path="embedder.npz",
        )


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def bundle(world: World) -> PolicyBundle:
    return world.fit()
