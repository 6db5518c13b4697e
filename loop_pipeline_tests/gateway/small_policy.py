"""A policy made by hand, and a student and a frontier whose answers are known beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fixtures import student
from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.groups.embedding.embedder import Embedder
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle, seal
from loop_pipeline.routing.policy_files import signed
from loop_pipeline.routing.router import Router
from loop_pipeline.traces.messages import template_hash
from loop_pipeline_tests.gateway.live import SECRETS, Live, live, wait_for
from loop_pipeline_tests.serving.examples import OLD

LABELS = ["refund", "delivery", "visa"]
CONTRACT = {"kind": "label", "labels": LABELS}
TEMPLATES = {"certified": "Sort the request.", "refused": "Write a poem.", "unknown": "Other."}
WORDS = ["flight", "hotel", "card", "bank", "invoice", "refund", "doctor", "ticket", "loan", "seat"]
THRESHOLD = -1.0


def words(number: int) -> str:
    """A request that no other number gives."""
    rng = np.random.default_rng(number)
    return f"{' '.join(rng.choice(WORDS, 5))} number {number}"


def messages(number: int, template: str = "certified") -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": TEMPLATES[template]},
        {"role": "user", "content": words(number)},
    ]


EMBEDDER = Embedder.fit([words(i) for i in range(60)], seed=0)


def _group(template: str, arm: str) -> GroupPolicy:
    centre = EMBEDDER.transform([words(i) for i in range(60)]).mean(axis=0)
    fields = {
        "group_id": f"g-{template}",
        "name": template,
        "template_hash": template_hash([{"role": "system", "content": TEMPLATES[template]}]),
        "task": template,
        "centroid": (centre / np.linalg.norm(centre)).tolist(),
        "radius": 2.0,
        "arm": arm,
        "threshold": THRESHOLD if arm == "student" else None,
        "n": 500,
        "accepted": 400,
        "errors": 2,
        "coverage": 0.8,
        "agreement": 0.99,
        "agreement_lower": 0.96,
        "delta": 0.05,
        "frontier_usd_per_request": 0.01,
        "expected_usd_per_request": 0.005,
        "reason": "certified" if arm == "student" else "agreement is too low",
    }
    return GroupPolicy.model_validate(fields)


def policy(checkpoint_id: str = OLD, **changes: Any) -> PolicyBundle:
    """One certified group, one refused; a coin that falls for three of ten."""
    one = {"logprob_sum": 1.0}
    plain: dict[str, Any] = {
        "parent": None,
        "recalibration": 1,
        "target_agreement": 0.95,
        "delta": 0.05,
        "exploration_rate": 0.3,
        "student": student(checkpoint_id),
        "frontier": {"model": "big"},
        "versions": {"detector": "1"},
        "subject_hash": f"subject {checkpoint_id[0]}",
        "evidence_hash": "e",
        "embedder_version": EMBEDDER.version,
        "embedder_path": "embedder.npz",
        "student_usd_per_request": 0.0002,
        "score": ScoreWeights(
            kind="logprob_sum",
            mean={"logprob_sum": 0.0},
            scale=one,
            coef=one,
            intercept=0.0,
            rows=0,
            reason="by hand",
        ),
        "groups": [_group("certified", "student"), _group("refused", "frontier")],
    }
    return seal(**(plain | changes))


def router(bundle: PolicyBundle | None = None) -> Router:
    return Router.load(bundle or policy(), EMBEDDER)


@contextmanager
def routed_live(home: Path, frontier: str, student: str, **changes: Any) -> Iterator[Live]:
    """A worker with this policy in force, as ``live``; a student that is slow is waited for."""
    (home / "artifacts" / "policies").mkdir(parents=True)
    EMBEDDER.save(home / "artifacts" / "policies" / "embedder.npz")
    (home / "gateway").mkdir()
    (home / "gateway" / "policy.json").write_text(signed(policy(), SECRETS.installation.encode()))
    given = {"frontier_model": "", "student_urls": (student,), "student_patience_ms": 60_000}
    with live(home, frontier, **given | changes) as running:
        wait_for(lambda: running.get("/health/ready").json()["policy"])
        yield running


def _chance(*parts: str) -> float:
    return int(hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8], 16) / 16**8


def frontier_says(text: str) -> str:
    return LABELS[int(3 * _chance("frontier", text))]


def student_says(adapter: str, text: str) -> tuple[str, list[float]]:
    """Its answer and log-probabilities: right in nine of ten, sure in three of four."""
    right = _chance("right", adapter, text) < 0.9
    sure = _chance("sure", adapter, text) < 0.75
    said = frontier_says(text) if right else LABELS[int(3 * _chance("wrong", adapter, text))]
    first = -0.01 if sure else -2.0
    return said, [first * (1 + _chance("token", text)), -0.125, -0.25]


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """What the student's server replies."""
    said, logprobs = student_says(body["model"], body["messages"][-1]["content"])
    choice = {
        "message": {"content": said},
        "logprobs": {"content": [{"logprob": value} for value in logprobs]},
        "finish_reason": "stop",
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 3}}


def completion_bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(completion(body)).encode()
