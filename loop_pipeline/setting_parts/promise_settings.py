"""The settings of what is promised, and of what a promise may rest on.

Not here: all other settings (``settings.py``, which holds these too).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

CHANCE = "Chance of a broken promise: of all certificates; of a task's quality threshold, each fit."


class PromiseSettings(BaseSettings):
    """What a deployment promises of its students' answers."""

    target_agreement: float = Field(0.95, gt=0.5, lt=1, description="Promise per task group.")
    delta: float = Field(0.05, gt=0, lt=0.5, description=CHANCE)
    target_kind: Literal["fixed", "ceiling"] = Field(
        "fixed",
        description="What is promised: LOOP_TARGET_AGREEMENT, or to agree with the frontier as"
        " often as it agrees with itself, less LOOP_CEILING_MARGIN.",
    )
    ceiling_margin: float = Field(
        0.02, gt=0, lt=0.5, description="How much less often, if LOOP_TARGET_KIND is ceiling."
    )
    certificate_days: int = Field(
        90, gt=0, description="Days a certificate holds after its newest request."
    )
    evidence_days: int = Field(
        90, gt=0, description="Days before the newest request from which a promise may be proven."
    )
    review_rate: float = Field(0.02, gt=0, le=1, description="Share of answers people review.")
    target_precision: float = Field(0.95, gt=0.5, lt=1, description="Of the positive pairs.")
