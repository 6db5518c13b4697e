"""What live traffic came to: who answered, how fast, how often right, and what it cost.

Not here: sending it (``demo/live_traffic.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from loop_pipeline.confidence.ceiling import ceiling_words
from loop_pipeline.report.numbers import money, percent
from loop_pipeline.report.words.cost_words import pays_from, per_hour
from loop_pipeline.whole_file import read_model

NAME = "live.json"


class ArmNumbers(BaseModel):
    """One way to an answer. Times are the client's, in milliseconds."""

    arm: str = Field(description="student, escalated or frontier")
    requests: int
    share: float
    first_p50: float | None = Field(description="To the first byte of a stream.")
    first_p95: float | None
    total_p50: float
    total_p95: float


class LiveNumbers(BaseModel):
    """A stretch of live traffic whose right answers were known."""

    requests: int
    errors: int
    seconds: float
    certified: float = Field(description="Coverage that the policy in force had certified.")
    promised: float = Field(description="Agreement that it promises.")
    served: int
    agreeing: int
    agreement_low: float | None
    agreement_high: float | None
    ceiling: str = Field(default="", description="How often the frontier agrees with itself.")
    overhead_p50: float | None = Field(description="Of the gateway itself, milliseconds.")
    overhead_p95: float | None
    arms: list[ArmNumbers]
    traces: int = Field(description="Rows that the store has of it.")
    billed_usd: float
    frontier_usd: float = Field(description="What the frontier alone would have billed.")
    break_even: float | None = Field(
        default=None, description="Student calls an hour from which on its server pays."
    )
    per_hour: float | None = Field(default=None, description="Student calls an hour, as sent here.")
    feedback: int
    shadowed: int
    policy: str
    next_policy: str = ""


def read_live(folder: Path) -> LiveNumbers | None:
    """The newest live stretch beside a report, if there was one."""
    path = folder / NAME
    mend = "delete it, or send live traffic again"
    return read_model(path, LiveNumbers, mend=mend) if path.exists() else None


def quantile(values: Sequence[float], share: float) -> float | None:
    """None of nothing."""
    return round(float(np.quantile(values, share)), 2) if len(values) else None


def live_sentences(live: LiveNumbers) -> list[str]:
    """The figures in words, the most important first."""
    served = live.served / live.requests if live.requests else 0.0
    agreed = live.agreeing / live.served if live.served else None
    interval = ""
    if live.agreement_low is not None and live.agreement_high is not None:
        interval = f" [{percent(live.agreement_low)}, {percent(live.agreement_high)}]"
    return [
        f"{live.requests:,} requests in {live.seconds:.0f} s, {live.errors} errors;"
        f" {live.traces:,} rows in the store",
        f"served by the student: {percent(served)} (certified {percent(live.certified)})",
        f"of these agree: {percent(agreed)}{interval} of {live.served:,}"
        f" (promised {percent(live.promised)}); {live.ceiling or ceiling_words(None)}",
        f"the gateway itself: p50 {_ms(live.overhead_p50)}, p95 {_ms(live.overhead_p95)}",
        f"the frontier billed {money(live.billed_usd)}; alone it would have billed"
        f" {money(live.frontier_usd)}. The student's server is paid besides, by the hour: it pays"
        f" {pays_from(live.break_even)}; here {per_hour(live.per_hour)} were sent to it, as fast as"
        " it goes, which is not your load",
        f"{live.shadowed:,} requests were answered by all; {live.feedback:,} reactions came back",
    ]


def live_table(live: LiveNumbers) -> list[tuple[str, ...]]:
    """A heading, and a row an arm."""
    head = ("answered by", "requests", "share", "first byte p50 / p95", "whole p50 / p95")
    rows = [
        (
            arm.arm,
            f"{arm.requests:,}",
            percent(arm.share),
            f"{_ms(arm.first_p50)} / {_ms(arm.first_p95)}",
            f"{_ms(arm.total_p50)} / {_ms(arm.total_p95)}",
        )
        for arm in live.arms
    ]
    return [head, *rows]


def live_text(live: LiveNumbers) -> str:
    """For a terminal."""
    table = live_table(live)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
    said = [f"  {sentence}" for sentence in live_sentences(live)]
    return "\n".join(["live traffic", *said, "", *(f"  {line.rstrip()}" for line in lines)])


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms"
