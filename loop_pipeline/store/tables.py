"""The tables of the loop, the same on SQLite and PostgreSQL. The key is ``prompt_id``.

Not here: how they came to be (``migrations``), and questions to them.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[dt.datetime]):
    """A moment in UTC. SQLite forgets time zones; this puts it back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Refuse naive moments, they mean another time on another machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(dt.UTC)

    def process_result_value(
        self, value: dt.datetime | None, dialect: Dialect
    ) -> dt.datetime | None:
        """Moments come back in UTC from every database."""
        if value is None or value.tzinfo is not None:
            return value.astimezone(dt.UTC) if value else None
        return value.replace(tzinfo=dt.UTC)


class Base(DeclarativeBase):
    """Maps Python types to columns."""

    type_annotation_map = {  # noqa: RUF012
        dt.datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        str: String().with_variant(Text, "postgresql"),
    }


class TraceRow(Base):
    """One request and its answer.

    ``model`` was asked for, ``served_model`` answered; ``response_id`` is the vendor's. Where the
    answer is tool calls, ``output`` is their canonical JSON, after the text if there is any. Each
    kind of tokens is part of ``tokens_in`` or ``tokens_out``. ``cost_usd`` null: unpriced.
    """

    __tablename__ = "traces"
    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    ts: Mapped[dt.datetime]
    day: Mapped[str]
    app: Mapped[str]
    user_hash: Mapped[str | None]
    conversation_id: Mapped[str | None]
    task: Mapped[str | None]
    template_hash: Mapped[str]
    messages: Mapped[list[Any]]
    context: Mapped[str | None]
    contract_id: Mapped[str | None]
    output: Mapped[str]
    producer: Mapped[str]
    model: Mapped[str]
    tokens_in: Mapped[int]
    tokens_cached: Mapped[int]
    tokens_out: Mapped[int]
    tokens_cache_write: Mapped[int]
    tokens_cache_write_1h: Mapped[int]
    tokens_audio_in: Mapped[int]
    tokens_audio_out: Mapped[int]
    tokens_reasoning: Mapped[int]
    service_tier: Mapped[str | None]
    cost_usd: Mapped[float | None]
    latency_ms: Mapped[float | None]
    finish_reason: Mapped[str | None]
    logprobs: Mapped[dict[str, Any] | None]
    route: Mapped[dict[str, Any] | None]
    split: Mapped[str]
    dedup_key: Mapped[str] = mapped_column(index=True)
    simulated: Mapped[bool]
    source: Mapped[str]
    tools: Mapped[list[Any] | None]
    parameters: Mapped[dict[str, Any] | None]
    tool_calls: Mapped[list[Any] | None]
    served_model: Mapped[str | None]
    response_id: Mapped[str | None] = mapped_column(index=True)
    retries: Mapped[int]
    first_byte_ms: Mapped[float | None]
    tags: Mapped[dict[str, Any] | None]


class TraceUnitRow(Base):
    """The unit a trace belongs to, named by its first row: the split of the trace is settled."""

    __tablename__ = "trace_units"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    unit: Mapped[str] = mapped_column(index=True)


class ContractRow(Base):
    """What an answer must look like: allowed labels, a JSON schema, or free text."""

    __tablename__ = "contracts"
    contract_id: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[dict[str, Any]]


class FeedbackRow(Base):
    """What a person did with an answer. Many per trace; late ones are welcome."""

    __tablename__ = "feedback"
    feedback_id: Mapped[str] = mapped_column(primary_key=True)
    prompt_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    value: Mapped[float | None]
    edited_output: Mapped[str | None]
    actor: Mapped[str | None]
    ts: Mapped[dt.datetime]
    received_at: Mapped[dt.datetime] = mapped_column(index=True)
    source: Mapped[str]


class QuarantineRow(Base):
    """A row that could not be read, with the reason and the place it came from.

    ``prompt_id``: feedback that waits for this trace.
    """

    __tablename__ = "quarantine"
    quarantine_id: Mapped[str] = mapped_column(primary_key=True)
    prompt_id: Mapped[str | None] = mapped_column(index=True)
    source: Mapped[str]
    line: Mapped[int]
    reason: Mapped[str]
    raw: Mapped[str]
    ts: Mapped[dt.datetime]


class QuarantineRetryRow(Base):
    """What came of a line in quarantine that was tried again: its history.

    ``imported``: it has left the quarantine, and ``raw`` is the line; otherwise it is still there,
    for another reason than this one.
    """

    __tablename__ = "quarantine_retries"
    retry_id: Mapped[str] = mapped_column(primary_key=True)
    quarantine_id: Mapped[str] = mapped_column(index=True)
    at: Mapped[dt.datetime]
    imported: Mapped[bool]
    source: Mapped[str]
    line: Mapped[int]
    reason: Mapped[str]
    raw: Mapped[str | None]
    quarantined_at: Mapped[dt.datetime]


class HallucinationFlagRow(Base):
    """Whether an answer says what its request does not support."""

    __tablename__ = "hallucination_flags"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    day: Mapped[str] = mapped_column(index=True)
    score: Mapped[float]
    flag: Mapped[bool]
    grounded: Mapped[str]
    reasons: Mapped[list[Any]]
    spans: Mapped[list[Any]]
    tier: Mapped[str]
    version: Mapped[str]


class TraceSignalRow(Base):
    """What is known about one answer besides reviewers' verdicts. Null: not known."""

    __tablename__ = "trace_signals"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    day: Mapped[str] = mapped_column(index=True)
    action: Mapped[str | None]
    edit_distance: Mapped[float | None]
    thumb: Mapped[float | None]
    rating: Mapped[float | None]
    regenerated: Mapped[bool | None]
    reasked_minutes: Mapped[float | None]
    copied: Mapped[bool | None]
    dwell_s: Mapped[float | None]
    judge: Mapped[float | None]
    reviews: Mapped[int]
    review_good: Mapped[float | None]
    contract_valid: Mapped[bool | None]
    grounding: Mapped[float | None]
    logprob_min: Mapped[float | None]
    logprob_p10: Mapped[float | None]
    words: Mapped[int]
    latency_ms: Mapped[float | None]
    version: Mapped[str]


class QualityModelRow(Base):
    """A fitted quality score with its threshold and the curve it was chosen from."""

    __tablename__ = "quality_models"
    version: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime]
    labels: Mapped[int]
    model: Mapped[dict[str, Any]]
    threshold: Mapped[float | None]
    reason: Mapped[str]


class QualityScoreRow(Base):
    """P(good) of one answer, and the signals that moved it, in log-odds."""

    __tablename__ = "quality_scores"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    day: Mapped[str] = mapped_column(index=True)
    score: Mapped[float | None]
    threshold: Mapped[float | None]
    origin: Mapped[str]
    because: Mapped[dict[str, Any]]
    version: Mapped[str | None]


class ReviewItemRow(Base):
    """The chance with which a trace is drawn for human review, and what became of it.

    ``status``: ``skipped`` (not drawn), ``open``, ``second`` (another reviewer is asked) or
    ``done``.
    """

    __tablename__ = "review_items"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    p_review: Mapped[float]
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(index=True)
    drawn_at: Mapped[dt.datetime]
    mlflow_trace_id: Mapped[str | None]


class ReviewerRow(Base):
    """How far a reviewer's verdicts can be trusted, from items that others reviewed as well."""

    __tablename__ = "reviewers"
    actor: Mapped[str] = mapped_column(primary_key=True)
    reviews: Mapped[int]
    overlaps: Mapped[int]
    finds_good: Mapped[float]
    finds_bad: Mapped[float]
    weight: Mapped[float]
    warning: Mapped[str | None]


class LabeledPairRow(Base):
    """What one trace teaches, and why."""

    __tablename__ = "labeled_pairs"
    pair_id: Mapped[str] = mapped_column(primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), index=True)
    day: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(index=True)
    chosen: Mapped[str | None]
    rejected: Mapped[str | None]
    score: Mapped[float | None]
    reason: Mapped[str]
    version: Mapped[str]


class SupersededPairRow(Base):
    """A pair that held once: what it taught, until when, and what the trace teaches instead."""

    __tablename__ = "superseded_pairs"
    pair_id: Mapped[str] = mapped_column(primary_key=True)
    superseded_at: Mapped[dt.datetime] = mapped_column(primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), index=True)
    day: Mapped[str]
    kind: Mapped[str]
    chosen: Mapped[str | None]
    rejected: Mapped[str | None]
    score: Mapped[float | None]
    reason: Mapped[str]
    version: Mapped[str]
    instead: Mapped[str]


class TaskGroupRow(Base):
    """A cluster of requests with an id that survives refits.

    Without ``parent_id`` it is a unit of certification, with one a finer unit of reporting.
    ``status``: ``active``, ``candidate`` (seen once in the unassigned pool), ``merged`` or
    ``retired``; a row that ended stays, so that its id can still be read.
    """

    __tablename__ = "task_groups"
    group_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    template_hash: Mapped[str]
    task: Mapped[str | None]
    terms: Mapped[list[Any]]
    exemplars: Mapped[list[Any]]
    centroid: Mapped[list[Any]]
    radius: Mapped[float]
    floor: Mapped[float]
    size: Mapped[int]
    version: Mapped[str]
    status: Mapped[str]
    parent_id: Mapped[str | None]
    renamed: Mapped[bool]
    streak: Mapped[int]
    related_id: Mapped[str | None]
    reason: Mapped[str]


class GroupLineageRow(Base):
    """What became of a group at a refit: ``born``, ``split``, ``merged`` or ``retired``."""

    __tablename__ = "group_lineage"
    event_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(index=True)
    kind: Mapped[str]
    from_id: Mapped[str | None]
    to_id: Mapped[str | None]
    reason: Mapped[str]


class GroupMemberRow(Base):
    """Which group a request belongs to, which part of it, and where it lies on the map."""

    __tablename__ = "group_members"
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    group_id: Mapped[str] = mapped_column(index=True)
    leaf_id: Mapped[str | None]
    distance: Mapped[float]
    x: Mapped[float]
    y: Mapped[float]


class TraceVectorRow(Base):
    """The embedded request: float16, little-endian; it goes when its trace goes."""

    __tablename__ = "trace_vectors"
    prompt_id: Mapped[str] = mapped_column(
        ForeignKey("traces.prompt_id", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[str] = mapped_column(index=True)
    vector: Mapped[bytes]


class GroupModelStatsRow(Base):
    """How one model does on one group, by what its rows are a sample of.

    Only rows with ``comparable`` may be set against another model's: who answered them was not
    chosen by the router.
    """

    __tablename__ = "group_model_stats"
    group_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    sample: Mapped[str] = mapped_column(primary_key=True)
    comparable: Mapped[bool]
    requests: Mapped[int]
    quality: Mapped[float | None]
    quality_low: Mapped[float | None]
    quality_high: Mapped[float | None]
    quality_method: Mapped[str | None]
    reviews: Mapped[int]
    flagged_share: Mapped[float | None]
    agreement: Mapped[float | None]
    agreement_low: Mapped[float | None]
    agreement_high: Mapped[float | None]
    cost_per_request: Mapped[float | None]
    latency_p50_ms: Mapped[float | None]
    latency_p95_ms: Mapped[float | None]
    latency_p99_ms: Mapped[float | None]


class DatasetRow(Base):
    """A frozen training set. Its hash is its name."""

    __tablename__ = "datasets"
    dataset_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime]
    folder: Mapped[str]
    counts: Mapped[dict[str, Any]]
    validated_pairs: Mapped[int]


class DatasetMemberRow(Base):
    """Which prompts a dataset holds."""

    __tablename__ = "dataset_rows"
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    split: Mapped[str]


class DatasetExclusionRow(Base):
    """Why a prompt that teaches something is not in a dataset."""

    __tablename__ = "dataset_exclusions"
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    reason: Mapped[str]


class CheckpointRow(Base):
    """A trained adapter and whether it may serve."""

    __tablename__ = "checkpoints"
    checkpoint_id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[dt.datetime]
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.dataset_id"))
    base_dir: Mapped[str]
    adapter_dir: Mapped[str]
    adapter_sha256: Mapped[str]
    mlflow_run_id: Mapped[str | None]
    model_version: Mapped[str | None]
    metrics: Mapped[dict[str, Any]]
    status: Mapped[str]
    reason: Mapped[str]


class StudentAnswerRow(Base):
    """What a checkpoint answered to a held-out request, through the server that serves."""

    __tablename__ = "student_answers"
    checkpoint_id: Mapped[str] = mapped_column(primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("traces.prompt_id"), primary_key=True)
    split: Mapped[str]
    output: Mapped[str]
    frontier_output: Mapped[str]
    agrees: Mapped[bool]
    logprob_min: Mapped[float]
    logprob_p10: Mapped[float]
    logprob_mean: Mapped[float]
    logprob_sum: Mapped[float]
    tokens_in: Mapped[int]
    tokens_out: Mapped[int]
    finish_reason: Mapped[str]
    latency_ms: Mapped[float]


class SpentGoldRow(Base):
    """A gold row that a gate has decided on, so that no report quotes it as unseen."""

    __tablename__ = "spent_gold"
    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]


class DeploymentRow(Base):
    """Who served what, since when."""

    __tablename__ = "deployments"
    deployment_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    checkpoint_id: Mapped[str]
    adapter_name: Mapped[str]
    server_url: Mapped[str]
    status: Mapped[str]
    detail: Mapped[str]


class PolicyRow(Base):
    """A routing policy bundle. At most one has no ``active_to``."""

    __tablename__ = "policies"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    bundle: Mapped[str]
    checkpoint_id: Mapped[str | None]
    active_from: Mapped[dt.datetime]
    active_to: Mapped[dt.datetime | None]


class RolloutRow(Base):
    """A change of the policy in force: who serves what from then on, who decided it, and why."""

    __tablename__ = "rollouts"
    event_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime] = mapped_column(index=True)
    action: Mapped[str]
    stage: Mapped[str]
    weight: Mapped[float]
    policy_sha256: Mapped[str]
    champion_id: Mapped[str]
    canary_id: Mapped[str | None]
    recalibration: Mapped[int]
    evidence: Mapped[dict[str, Any]]
    actor: Mapped[str]
    reason: Mapped[str]


class AccessKeyRow(Base):
    """A key of the gateway, known by its digest only.

    ``limits`` holds those of ``parallel``, ``per_minute`` and ``usd_per_day`` that are set.
    """

    __tablename__ = "keys"
    key_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    app: Mapped[str]
    roles: Mapped[list[Any]]
    limits: Mapped[dict[str, Any]]
    created_at: Mapped[dt.datetime]
    expires_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class HoldRow(Base):
    """A group that the frontier answers, whatever the policy says, until it is released."""

    __tablename__ = "holds"
    hold_id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(index=True)
    at: Mapped[dt.datetime]
    reason: Mapped[str]
    actor: Mapped[str]
    released_at: Mapped[dt.datetime | None]
    released_by: Mapped[str | None]
    released_reason: Mapped[str | None]


class WatchedAnswerRow(Base):
    """An answer that a student served and the frontier was asked for as well, in shadow.

    ``position`` counts those of a group and a model that are evidence, from 1; null: another answer
    to the same ``unit`` (a conversation) is. ``stream`` is another one after each release of the
    group: what was found before then counts no more.
    """

    __tablename__ = "watched_answers"
    prompt_id: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str]
    adapter: Mapped[str]
    stream: Mapped[int]
    position: Mapped[int | None]
    unit: Mapped[str]
    at: Mapped[dt.datetime]
    disagrees: Mapped[bool]


class ShadowRateRow(Base):
    """Share of a group's requests that everybody answers, where it is higher than the policy's."""

    __tablename__ = "shadow_rates"
    group_id: Mapped[str] = mapped_column(primary_key=True)
    rate: Mapped[float]
    reason: Mapped[str]


class AlertRow(Base):
    """Something a person should know, once for each cause, subject and day.

    ``resolved``: when it was over.
    """

    __tablename__ = "alerts"
    alert_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    cause: Mapped[str]
    day: Mapped[str]
    subject: Mapped[str]
    text: Mapped[str]
    resolved: Mapped[dt.datetime | None]


class LiveDayRow(Base):
    """What the live requests of a day sum up to, by who answered, and under which policy.

    ``lane``: ``student``, ``escalated``, ``frontier`` or ``beside``; an empty name: there is none.
    ``unpriced``: the model, where nobody knows what these answers cost.
    """

    __tablename__ = "live_days"
    day: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(primary_key=True)
    group_id: Mapped[str] = mapped_column(primary_key=True)
    canary: Mapped[bool] = mapped_column(primary_key=True)
    unpriced: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    usd: Mapped[float]
    tokens_in: Mapped[int] = mapped_column(BigInteger)
    tokens_out: Mapped[int] = mapped_column(BigInteger)
    first: Mapped[dt.datetime]


class LiveMinuteRow(Base):
    """Live requests of a minute by who answered. Minutes of the last day are kept."""

    __tablename__ = "live_minutes"
    minute: Mapped[str] = mapped_column(primary_key=True)
    lane: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int]


class LedgerRow(Base):
    """What a day cost, item by item."""

    __tablename__ = "ledger"
    day: Mapped[str] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    amount_usd: Mapped[float]
    detail: Mapped[str]


# The few answers that the shadow coin drew, and the newest that have a contract, are found without
# reading the others. A statement has to name the condition as it stands here.
DRAWN = {
    "sqlite": text("json_extract(route, '$.shadow')"),
    "postgresql": text("(route ->> 'shadow') = 'true'"),
}
CONTRACTED = text("task IS NOT NULL AND contract_id IS NOT NULL")
Index("ix_traces_day_ts", TraceRow.day, TraceRow.ts)
Index(
    "ix_traces_drawn",
    TraceRow.day,
    TraceRow.prompt_id,
    sqlite_where=DRAWN["sqlite"],
    postgresql_where=DRAWN["postgresql"],
)
Index("ix_traces_contracted", TraceRow.day, sqlite_where=CONTRACTED, postgresql_where=CONTRACTED)
Index(
    "ix_watched_stream",
    WatchedAnswerRow.group_id,
    WatchedAnswerRow.adapter,
    WatchedAnswerRow.stream,
    WatchedAnswerRow.position,
    unique=True,
)
Index("ix_pairs_kind_day", LabeledPairRow.kind, LabeledPairRow.day)
Index("ix_answers_split", StudentAnswerRow.checkpoint_id, StudentAnswerRow.split)
