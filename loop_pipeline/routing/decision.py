"""What the router says before a call, and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Decision:
    """Who is asked first.

    ``adapter`` is the name by which the cheaper model is asked (the student's adapter, or another
    upstream), None for the frontier; a ``canary`` is judged by its own thresholds. ``score`` is
    that of a model judged before the call. ``propensity`` is the chance that all models answer
    this request (the shadow coin), the same for every request, so that shadowed requests are a
    uniform sample of traffic: each goes to the frontier and to every one of ``Router.adapters``.
    Escalated requests enter calibration only if ``shadow`` is set: that thins them with the same
    coin.
    """

    arm: Literal["student", "frontier"]
    group_id: str | None
    reason: str
    propensity: float
    shadow: bool
    adapter: str | None = None
    canary: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether the student's answer goes out."""

    action: Literal["serve", "escalate"]
    score: float | None
    threshold: float | None
    reason: str
