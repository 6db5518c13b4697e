"""What a stretch of live traffic came to, from what the client saw and what the store has.

Not here: how it is shown (``report/live.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, func, select

from loop_pipeline.confidence.ceiling import ceiling_words
from loop_pipeline.confidence.frontier_twice import frontier_twice
from loop_pipeline.demo.live_traffic import LiveAnswer
from loop_pipeline.report.live import ArmNumbers, LiveNumbers, quantile
from loop_pipeline.routing.policy import PolicyBundle
from loop_pipeline.stats.binomial import clopper_pearson
from loop_pipeline.stats.sampling import coin
from loop_pipeline.store.tables import TraceRow

ARMS = ("student", "escalated", "frontier")
# Of the answers, by a coin of the prompt id: what people said about them comes back as feedback.
REACTIONS = 0.2
HOUR = 3600.0


def reacts(answer: LiveAnswer) -> bool:
    """Whether somebody says what they think of this answer."""
    return bool(answer.prompt_id) and coin("reaction", answer.prompt_id) < REACTIONS


def trace_rows(engine: Engine) -> int:
    """How many traces the store has."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(TraceRow)) or 0


def live_numbers(
    engine: Engine,
    bundle: PolicyBundle,
    answers: Sequence[LiveAnswer],
    *,
    traces: int,
    seconds: float,
    server_usd_per_hour: float,
) -> LiveNumbers:
    """Count what came back, and set it beside what was certified.

    Args:
        engine: the store, which has the traces by now.
        bundle: the policy that decided.
        answers: as the client saw them.
        traces: rows that the store has of this stretch.
        seconds: that it took.
        server_usd_per_hour: of the student's server, with all that comes on top of the rent.
    """
    good = [a for a in answers if a.error is None]
    served = [a for a in good if a.arm == "student"]
    agreeing = sum(a.agrees for a in served)
    low, high = clopper_pearson(agreeing, len(served)) if served else (None, None)
    overheads = [a.overhead_ms for a in good if a.overhead_ms is not None]
    asked = sum(a.arm in ("student", "escalated") for a in good)
    all_frontier, covered_usd = (sum(a.frontier_usd for a in part) for part in (good, served))
    rows = sum(group.n for group in bundle.groups)
    accepted = sum(group.accepted for group in bundle.groups if group.arm == "student")
    return LiveNumbers(
        requests=len(answers),
        errors=len(answers) - len(good),
        seconds=round(seconds, 1),
        certified=accepted / rows if rows else 0.0,
        promised=bundle.target_agreement,
        served=len(served),
        agreeing=agreeing,
        agreement_low=low,
        agreement_high=high,
        ceiling=ceiling_words(frontier_twice(engine).whole),
        overhead_p50=quantile(overheads, 0.5),
        overhead_p95=quantile(overheads, 0.95),
        arms=[_arm(name, good) for name in ARMS if any(a.arm == name for a in good)],
        traces=traces,
        billed_usd=all_frontier - covered_usd,
        break_even=server_usd_per_hour * asked / covered_usd if covered_usd else None,
        per_hour=asked * HOUR / seconds if seconds else None,
        frontier_usd=all_frontier,
        feedback=sum(map(reacts, answers)),
        shadowed=_shadowed(engine, [a.prompt_id for a in answers]),
        policy=bundle.sha256,
    )


def _arm(name: str, answers: Sequence[LiveAnswer]) -> ArmNumbers:
    own = [a for a in answers if a.arm == name]
    first = [a.first_ms for a in own if a.streamed]
    total = [a.total_ms for a in own]
    return ArmNumbers(
        arm=name,
        requests=len(own),
        share=len(own) / len(answers),
        first_p50=quantile(first, 0.5),
        first_p95=quantile(first, 0.95),
        total_p50=quantile(total, 0.5) or 0.0,
        total_p95=quantile(total, 0.95) or 0.0,
    )


def _shadowed(engine: Engine, prompt_ids: Sequence[str]) -> int:
    """How many of these requests the shadow coin gave to everybody."""
    drawn = TraceRow.route["shadow"].as_boolean()
    with engine.connect() as connection:
        found = connection.scalars(select(TraceRow.prompt_id).where(drawn))
        return len(set(found) & set(prompt_ids))
