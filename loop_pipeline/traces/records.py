"""One trace and one piece of feedback, as the outside world hands them in.

Not here: foreign formats (``importers``), and storing (``ingest.py``).
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from loop_pipeline.costs.prices import PRICES
from loop_pipeline.hashing import digest
from loop_pipeline.traces.messages import dedup_key, template_hash

FeedbackKind = Literal[
    "accepted",
    "modified",
    "rejected",
    "regenerated",
    "thumb_up",
    "thumb_down",
    "rating",
    "copied",
    "dwell",
    "judge",
    "review",
]

# Shares of traffic by the hash of the request: what a student learns from, what its confidence is
# fitted on, what the certificate is computed on, what the gate and the reported figures use.
SPLITS = (("train", 0.70), ("validation", 0.05), ("calibration", 0.15), ("gold", 0.10))


def split_of(key: str) -> str:
    """The split a request belongs to, for ever: a hash, so held-out rows are never re-drawn."""
    point = int(digest("split", key)[:12], 16) / 16**12
    total = 0.0
    for name, share in SPLITS:
        total += share
        if point < total:
            return name
    return SPLITS[-1][0]


class Message(BaseModel):
    """One turn of a conversation. Tool calls and the like pass through untouched."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[Any] | None = None


class Feedback(BaseModel):
    """What a person did with an answer."""

    model_config = ConfigDict(extra="forbid")
    prompt_id: str = Field(min_length=1)
    kind: FeedbackKind
    value: float | None = Field(None, ge=0, description="0 to 1; seconds for dwell.")
    edited_output: str | None = None
    actor: str | None = None
    app: str | None = Field(None, description="Counts on traces of this app only; None: of any.")
    ts: AwareDatetime

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind in ("review", "rating", "judge") and self.value is None:
            raise ValueError(f"feedback of kind {self.kind!r} needs a value from 0 to 1")
        if self.kind == "dwell" and self.value is None:
            raise ValueError("feedback of kind 'dwell' needs a value, the seconds")
        if self.kind != "dwell" and self.value is not None and self.value > 1:
            raise ValueError(f"value {self.value} of kind {self.kind!r} is not from 0 to 1")
        if self.kind == "modified" and self.edited_output is None:
            raise ValueError("feedback of kind 'modified' needs edited_output")
        return self


class Trace(BaseModel):
    """One request and its answer."""

    model_config = ConfigDict(extra="forbid")
    prompt_id: str = Field("", description="Empty: derived from time, messages and output.")
    ts: AwareDatetime
    messages: list[Message] = Field(min_length=1)
    output: str
    model: str = Field(min_length=1)
    app: str = "default"
    user: str | None = Field(None, description="Stored as a keyed hash only.")
    user_hash: str | None = Field(None, description="Instead of user, where it is hashed already.")
    conversation_id: str | None = None
    task: str | None = None
    context: str | None = None
    contract: dict[str, Any] | None = None
    producer: Literal["frontier", "student", "human"] = "frontier"
    tokens_in: int = Field(0, ge=0)
    tokens_cached: int = Field(0, ge=0)
    tokens_out: int = Field(0, ge=0)
    cost_usd: float | None = Field(None, ge=0, description="None: from the price table.")
    latency_ms: float | None = Field(None, ge=0)
    finish_reason: str | None = None
    logprobs: dict[str, float] | None = None
    route: dict[str, Any] | None = None
    tools: list[Any] | None = None
    parameters: dict[str, Any] | None = None
    tool_calls: list[Any] | None = Field(None, description="Of the answer.")
    served_model: str | None = Field(None, description="The model that answered, as it says.")
    response_id: str | None = Field(None, description="The vendor's id of the answer.")
    retries: int = Field(0, ge=0)
    first_byte_ms: float | None = Field(None, ge=0)
    tags: dict[str, Any] | None = None
    simulated: bool = False
    feedback: list[dict[str, Any]] = Field(default_factory=list)

    def _cost(self) -> float:
        if self.cost_usd is not None:
            return self.cost_usd
        known = PRICES.get(self.model)
        return known.cost(self.tokens_in, self.tokens_cached, self.tokens_out) if known else 0.0

    def rows(self, source: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The trace as a row of ``traces``, and its contract as a row of ``contracts``."""
        messages = [m.model_dump() for m in self.messages]
        moment = self.ts.astimezone(dt.UTC)
        key = dedup_key(messages, self.tools)
        contract_id = self.contract and digest(json.dumps(self.contract, sort_keys=True))[:16]
        row = self.model_dump(
            exclude={"messages", "user", "user_hash", "contract", "feedback", "ts", "prompt_id"}
        ) | {
            "prompt_id": self.prompt_id
            or digest(moment.isoformat(), json.dumps(messages), self.output)[:32],
            "ts": moment,
            "day": moment.date().isoformat(),
            "user_hash": self.user_hash or (digest("user", self.user)[:16] if self.user else None),
            "template_hash": template_hash(messages),
            "messages": messages,
            "contract_id": contract_id,
            "cost_usd": self._cost(),
            "split": split_of(key),
            "dedup_key": key,
            "source": source,
        }
        contract = {"contract_id": contract_id, "body": self.contract} if contract_id else None
        return row, contract
