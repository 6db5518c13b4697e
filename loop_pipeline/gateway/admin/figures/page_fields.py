"""The fields of ``/page/numbers.json``: every figure of the page.

Not here: how they are come by (``live_numbers.py``), and how they look (``browser/page.js``).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from loop_pipeline.gateway.admin.figures.live_bill import BillNumbers

State = Literal["kept", "in doubt", "broken", "nothing served"]
LANES: tuple[Literal["student", "escalated", "frontier"], ...] = (
    "student",
    "escalated",
    "frontier",
)


class Minute(BaseModel):
    """Requests of one minute (UTC), by who answered."""

    minute: str
    student: int
    escalated: int
    frontier: int


class Period(BaseModel):
    """Requests of a window and its bill."""

    since: str
    requests: int
    student: int = Field(description="Answered by a student.")
    escalated: int = Field(description="A student was asked, then the frontier answered.")
    frontier: int = Field(description="The frontier was asked at once.")
    bill: BillNumbers


class Achieved(BaseModel):
    """What a promise has come to: of requests this month, under the policy in force."""

    requests: int
    student: int
    coverage: float | None = Field(description="Share of requests that a student answered.")
    certified_coverage: float = Field(description="Share that the certificate expects.")
    target: float = Field(description="Promised share of agreement with the frontier.")
    checked: int = Field(description="Served answers that the frontier was asked for as well.")
    agreed: int
    agreement: float | None
    low: float | None = Field(description="Exact 95% interval of the agreement.")
    high: float | None
    state: State
    ceiling: float | None = Field(
        description="How often the frontier agrees with itself; None: not measured."
    )
    ceiling_words: str


class GroupLine(Achieved):
    """One task group."""

    group_id: str
    name: str
    arm: Literal["student", "frontier"]
    reason: str
    held: str | None = Field(description="Why it is held back from students; None: it is not.")


class Hold(BaseModel):
    """A group whose requests go to the frontier until a person releases it."""

    group_id: str
    name: str
    since: str | None
    reason: str
    actor: str | None


class SpoolNumbers(BaseModel):
    """What waits for the store."""

    segments: int
    bytes: int
    traces: int
    oldest_s: float | None
    unread_bytes: int = Field(description="Not looked at yet, so not in the figures.")


class Policy(BaseModel):
    """The policy in force."""

    sha256: str
    student: str
    frontier: str
    target: float
    margin: float | None = Field(
        description="Promised is the frontier's agreement with itself, less this; None: target."
    )
    expires: str | None
    canary: str | None


class LiveNumbers(BaseModel):
    """The page in figures. Days and minutes are UTC, money is USD."""

    now: str
    viewer: str
    policy: Policy | None
    minutes: list[Minute]
    today: Period
    month: Period
    promise: Achieved | None
    groups: list[GroupLine]
    holds: list[Hold]
    spool: SpoolNumbers
    newest: list[dict[str, Any]] = Field(description="The last requests; fields of `listed`.")
    counted_at: str | None = Field(description="When the store was last counted.")
    count_took_s: float | None
    problems: list[str]
