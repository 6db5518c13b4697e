"""Numbers to render: nothing at all, and everything at once, with hostile names."""

import math

from loop_pipeline.confidence.ceiling import Ceiling
from loop_pipeline.costs.attribution import attribute
from loop_pipeline.report.numbers import (
    Agreement,
    Coverage,
    GroupNumbers,
    LoopNumbers,
    QualityCurve,
    RiskCurve,
    Served,
)

EVIL = '<script>alert("x")</script> & $x_ \n second line ' + "long " * 40
PARTS = ("agreement", "coverage", "groups", "costs", "curves", "loss", "clusters", "quality")


def nothing() -> LoopNumbers:
    return LoopNumbers(title="Nothing yet", simulated=False)


def everything(groups: int = 14) -> LoopNumbers:
    names = [f"group {i} {EVIL}" for i in range(groups)]
    curve = [(k / 100, 0.1 * (k / 100) ** 3) for k in range(1, 101)]
    ceiling = Ceiling(asked=120, agreed=110, low=0.852, high=0.959, drawn=True)
    task = Agreement(name=EVIL, value=0.94, low=0.91, high=0.96, n=440, reference=0.4)
    task.ceiling = ceiling
    return LoopNumbers(
        title=f"Desk {EVIL}",
        simulated=True,
        traces=123_456,
        days=21,
        quarantined=12,
        pairs={"sft": 40_012, "dpo": 310, "kto_pos": 24_120, "kto_neg": 5_140, EVIL: 1},
        flags=312,
        flagged_share=0.0347,
        agreement=task.model_copy(update={"name": "all tasks"}),
        agreement_by_task=[task] * 5 + [task.model_copy(update={"lexical": True})],
        reference_name=EVIL,
        coverage=Coverage(
            target=0.95,
            delta=0.05,
            certified=0.812,
            most=0.93,
            achieved=0.807,
            achieved_agreement=0.961,
            uncertified=0.88,
        ),
        groups=[
            GroupNumbers(
                group_id=str(i),
                name=name,
                size=1000 - i,
                arm="frontier" if i % 5 == 4 else "student",
                threshold=None if i % 5 == 4 else 0.9,
                coverage=0.0 if i % 5 == 4 else 0.8,
                agreement=0.97,
                agreement_low=0.951,
                n=150,
                frontier_usd=0.004,
                routed_usd=0.001,
                reason=EVIL,
                lexical=i % 3 == 0,
                ceiling=ceiling if i % 2 else None,
                most=0.91,
            )
            for i, name in enumerate(names)
        ],
        costs=attribute(
            requests=1000,
            coverage=0.812,
            requests_per_hour=7200,
            server_hourly_usd=1.4,
            frontier_usd=4.2,
        ),
        risk_curves=[
            RiskCurve(group=name, points=curve, certified=(0.8, 0.0512)) for name in names
        ],
        loss=[(step, 3 * math.exp(-step / 50)) for step in range(5000)],
        quality=[
            QualityCurve(
                name=EVIL,
                points=[(t / 40, 1 - t / 40, 0.7 + t / 160, 0.65 + t / 160) for t in range(1, 40)],
                threshold=0.8,
                reason=EVIL,
            )
        ],
        clusters=[(math.sin(i), math.cos(2 * i), names[i % groups]) for i in range(1500)],
        served=Served(question=EVIL, answer=EVIL, logprob_min=-0.01, latency_ms=41.0),
        student_adapter=EVIL,
        checkpoint_id=EVIL,
        mlflow_run_id=EVIL,
        policy_sha=EVIL,
        timings={EVIL: 12.0},
        notes=[EVIL] * 5,
    )
