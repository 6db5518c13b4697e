"""Live traffic with known truth: a policy of two groups, and requests in every lane."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
from sqlalchemy import Engine

from loop_pipeline.confidence.answer_score import FEATURES
from loop_pipeline.confidence.answer_score_fit import fit_score
from loop_pipeline.gateway.segments import Segment
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle, seal
from loop_pipeline.traces.importers.jsonl import parse_line
from loop_pipeline.traces.ingest import import_records

EVIL = '<img src=x onerror="document.title=\'owned\'"></td><script>document.title="owned"</script>'
ADAPTER = "student-aaaaaaaaaaaa"
FRONTIER = "claude-opus-5"


@cache
def policy() -> PolicyBundle:
    """Group g1 is the student's, with half its requests certified; g2 is the frontier's."""
    groups = [_group("g1", "orders", "student", 0.5), _group("g2", "letters", "frontier", 0.0)]
    return seal(
        parent=None,
        recalibration=1,
        target_agreement=0.95,
        delta=0.05,
        student={"checkpoint_id": "a" * 64, "adapter": ADAPTER},
        frontier={"model": FRONTIER},
        versions={"detector": "1"},
        subject_hash="s",
        evidence_hash="e",
        embedder_version="1",
        embedder_path="embedder.npz",
        student_usd_per_request=0.0001,
        score=fit_score(pd.DataFrame(columns=pd.Index(["prompt_id", *FEATURES, "agrees"]))),
        groups=groups,
    )


def _group(group_id: str, name: str, arm: Any, coverage: float) -> GroupPolicy:
    return GroupPolicy(  # pyright: ignore[reportCallIssue]
        group_id=group_id,
        name=name,
        template_hash="t",
        task=name,
        centroid=[1.0],
        radius=1.0,
        arm=arm,
        threshold=0.9 if arm == "student" else None,
        n=200,
        accepted=100,
        errors=1,
        coverage=coverage,
        agreement=0.99,
        agreement_lower=0.96,
        delta=0.05,
        frontier_usd_per_request=0.01,
        expected_usd_per_request=0.005,
        reason="certified" if arm == "student" else "agreement is too low",
        offers=[],
    )


def line(prompt_id: str, ts: dt.datetime, lane: str, **fields: Any) -> dict[str, Any]:
    """A captured request: lane student, escalated or frontier."""
    asked = lane != "frontier"
    route = {
        "arm": "student" if asked else "frontier",
        "adapter": ADAPTER if asked else None,
        "group_id": "g1" if asked else "g2",
        "reason": "group orders is the student's" if asked else "group letters is the frontier's",
        "propensity": 0.02,
        "shadow": False,
        "canary": False,
        "action": {"student": "serve", "escalated": "escalate"}.get(lane),
        "score": {"student": 0.97, "escalated": 0.41}.get(lane),
        "threshold": 0.9 if asked else None,
        "settled": {"student": "sure enough", "escalated": "not sure enough"}.get(lane),
        "policy": policy().sha256,
        "rung": "student" if lane == "student" else "frontier",
        "wire": "chat",
    }
    student = lane == "student"
    return {
        "prompt_id": prompt_id,
        "ts": ts.isoformat(),
        "messages": [
            {"role": "system", "content": "Classify the request."},
            {"role": "user", "content": fields.pop("text", f"where is order {prompt_id}?")},
        ],
        "output": "delivery",
        "app": "desk",
        "task": "orders",
        "producer": "student" if student else "frontier",
        "model": FRONTIER,
        "served_model": ADAPTER if student else FRONTIER,
        "tokens_in": 80 if student else 100,
        "tokens_out": 4 if student else 5,
        "cost_usd": 0.0 if student else 0.01,
        "latency_ms": 120.0 if student else 900.0,
        "finish_reason": "stop",
        "logprobs": {"sum": -0.05, "min": -0.04, "p10": -0.03, "mean": -0.01} if student else None,
        "contract": {"kind": "label", "labels": ["delivery", "refund"]},
        "route": route | fields.pop("route", {}),
        **fields,
    }


def beside(main: dict[str, Any], output: str, **fields: Any) -> dict[str, Any]:
    """The frontier's answer to a request that the student answered and the coin drew."""
    route = {"shadow_of": main["prompt_id"], "shadow": True, "propensity": 0.02}
    own = line(f"{main['prompt_id']}~frontier", dt.datetime.fromisoformat(main["ts"]), "frontier")
    return own | {"output": output, "messages": main["messages"], "route": route} | fields


def store(engine: Engine, lines: Iterable[dict[str, Any]]) -> None:
    """Import lines as the shipper does."""
    records = [(i, r) for i, row in enumerate(lines) for r in parse_line(orjson.dumps(row))]
    done = import_records(engine, records, source="spool")
    assert done.quarantined == 0, done


def spool(folder: Path, lines: Iterable[dict[str, Any]], *, sealed: bool = False) -> Segment:
    """Write lines to a segment, which stays open unless it is to be sealed."""
    segment = Segment(folder)
    for row in lines:
        segment.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    if sealed:
        segment.seal()
    return segment
