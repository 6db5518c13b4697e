"""One trace and one piece of feedback, as the outside world hands them in.

Not here: foreign formats (``importers``), and storing (``ingest.py``).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from loop_pipeline.hashing import digest
from loop_pipeline.traces.storable import MOST_AMOUNT, MOST_INT, too_long

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

Producer = Literal["frontier", "student", "human"]

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

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt_id: str = Field(min_length=1)
    kind: FeedbackKind
    value: float | None = Field(
        None, ge=0, le=MOST_AMOUNT, description="0 to 1; seconds for dwell."
    )
    edited_output: str | None = None
    actor: str | None = None
    app: str | None = Field(
        default=None, description="Counts on traces of this app only; None: of any."
    )
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
        if why := too_long("prompt_id", self.prompt_id):
            raise ValueError(why)
        return self


class Trace(BaseModel):
    """One request and its answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    prompt_id: str = Field("", description="Empty: derived from time, messages and output.")
    ts: AwareDatetime
    messages: list[Message] = Field(min_length=1)
    output: str = Field(description="Not needed where the answer is tool calls.")
    model: str = Field(min_length=1)
    app: str = "default"
    user: str | None = Field(None, description="Stored as a keyed hash only.")
    user_hash: str | None = Field(None, description="Instead of user, where it is hashed already.")
    conversation_id: str | None = None
    task: str | None = None
    context: str | None = None
    contract: dict[str, Any] | None = None
    producer: Producer = "frontier"
    tokens_in: int = Field(0, ge=0, le=MOST_INT)
    tokens_cached: int = Field(
        0, ge=0, le=MOST_INT, description="Of tokens_in: read from the provider's cache."
    )
    tokens_out: int = Field(0, ge=0, le=MOST_INT)
    tokens_cache_write: int = Field(
        0, ge=0, le=MOST_INT, description="Of tokens_in: written to the provider's cache."
    )
    tokens_cache_write_1h: int = Field(0, ge=0, le=MOST_INT, description="Of these: for an hour.")
    tokens_audio_in: int = Field(0, ge=0, le=MOST_INT, description="Of tokens_in.")
    tokens_audio_out: int = Field(0, ge=0, le=MOST_INT, description="Of tokens_out.")
    tokens_reasoning: int = Field(0, ge=0, le=MOST_INT, description="Of tokens_out.")
    service_tier: str | None = Field(
        None, description="How it was asked: batch, flex, priority; None: as usual."
    )
    cost_usd: float | None = Field(
        None, ge=0, le=MOST_AMOUNT, description="None: from LOOP_PRICES_FILE and list prices."
    )
    latency_ms: float | None = Field(None, ge=0, le=MOST_AMOUNT)
    finish_reason: str | None = None
    logprobs: dict[str, float] | None = None
    route: dict[str, Any] | None = None
    tools: list[Any] | None = None
    parameters: dict[str, Any] | None = None
    tool_calls: list[Any] | None = Field(None, description="Of the answer.")
    served_model: str | None = Field(None, description="The model that answered, as it says.")
    response_id: str | None = Field(None, description="The vendor's id of the answer.")
    retries: int = Field(0, ge=0, le=MOST_INT)
    first_byte_ms: float | None = Field(None, ge=0, le=MOST_AMOUNT)
    tags: dict[str, Any] | None = None
    simulated: bool = False
    feedback: list[dict[str, Any]] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _calls_are_an_answer(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tool_calls") and data.get("output") is None:
            return data | {"output": ""}
        return data

    @model_validator(mode="after")
    def _ids_fit(self) -> Self:
        for name in ("prompt_id", "response_id"):
            if why := too_long(name, getattr(self, name)):
                raise ValueError(why)
        return self
