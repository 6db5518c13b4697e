"""The policy: one canonical JSON document that decides every route.

Not here: how it is made (``policy_fit.py``), and how it decides (``router.py``).
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from loop_pipeline.confidence.answer_score import ScoreWeights
from loop_pipeline.confidence.ceiling import Ceiling
from loop_pipeline.confidence.certificate import Certificate, Count, Document, Share, Threshold, Usd
from loop_pipeline.confidence.request_score import RequestScore
from loop_pipeline.hashing import canonical, plain_numbers, seal_of

SCHEMA_VERSION = 4
# Version 1 had no canary, version 2 one student and no expiry, version 3 certificates that ended
# with each refit; a rollback may return to them.
READABLE = (1, 2, 3, 4)
EXPLORATION_RATE = 0.02
# While a rollout runs: only live requests that all three answered say whether it may go on.
ROLLOUT_RATE = 0.2
# Beside the seal, not under it: signed or not, a document has one sha256 (``policy_files``).
SIGNATURE = "signature"


class BadBundle(ValueError):
    """A policy document that must not route anything."""


class Upstream(Document):
    """A cheaper model besides the student. By a ``RequestScore`` it is judged before the call."""

    name: str
    version: str
    usd_per_request: Usd | None
    score: ScoreWeights | RequestScore


class Offer(Certificate):
    """What asking one model first would be worth for a group, and why it was taken or not."""

    model: str
    expected_usd_per_request: Usd | None


class GroupPolicy(Document):
    """Where one task group goes, on what evidence, and at what expected cost.

    ``arm`` "student" means that a cheaper model is asked first: ``model``, or the trained student
    where that is None. The figures are of the offer taken, or of the best one refused. ``ceiling``:
    how often the frontier agrees with itself in it, None: not measured.
    """

    group_id: str
    name: str
    template_hash: str
    task: str | None
    centroid: list[float] = Field(min_length=1)
    radius: float = Field(ge=0, le=2, description="A cosine distance.")
    arm: Literal["student", "frontier"]
    threshold: Threshold | None
    n: Count
    accepted: Count
    errors: Count
    coverage: Share
    agreement: Share | None
    agreement_lower: Share | None
    delta: Share
    frontier_usd_per_request: Usd | None
    expected_usd_per_request: Usd | None
    reason: str
    model: str | None = None
    offers: list[Offer] = Field([])
    floor: float = Field(0.0, ge=0, le=2, description="A length of a vector.")
    ceiling: Ceiling | None = None
    least: Share | None = None
    worth: float | None = None
    grid: list[Threshold] = Field([])
    round: Count = 0
    share: Share = 0.0
    subject: str = ""


class Canary(Document):
    """A challenger beside the champion, with a complete policy and certificates of its own."""

    stage: str
    weight: Share
    policy: PolicyBundle


class PolicyBundle(Document):
    """Groups, thresholds and everything a promise hangs on, under one sha256.

    ``parent`` is the policy that a rollback returns to. From ``expires`` (a UTC day) on its
    certificates are void. ``app``: the only one whose requests it speaks of; empty: all.
    ``margin``: to agree with the frontier as often as it agrees with itself, less this; None:
    ``target_agreement``. ``ceiling``: that of all requests. ``recalibration``: the last round of
    tests of its certificates. ``units``: what its calibration rows are units of.
    """

    schema_version: int = SCHEMA_VERSION
    parent: str | None
    recalibration: Count
    target_agreement: Share
    delta: Share
    exploration_rate: Share = EXPLORATION_RATE
    student: dict[str, str]
    frontier: dict[str, str]
    versions: dict[str, str]
    subject_hash: str
    evidence_hash: str
    embedder_version: str
    embedder_path: str
    student_usd_per_request: Usd | None
    score: ScoreWeights
    groups: list[GroupPolicy]
    canary: Canary | None = None
    expires: str | None = None
    prices: str | None = None
    others: list[Upstream] = Field([])
    app: str = ""
    ceiling: Ceiling | None = None
    margin: Share | None = None
    units: str = ""
    sha256: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.expires is not None:
            dt.date.fromisoformat(self.expires)
        if len({len(group.centroid) for group in self.groups}) > 1:
            raise ValueError("centroids of its groups have different lengths")
        if len({group.group_id for group in self.groups}) < len(self.groups):
            raise ValueError("two of its groups have one id")
        known = {None, *(model.name for model in self.others)}
        for group in self.groups:
            if group.model not in known:
                raise ValueError(f"group {group.group_id} asks {group.model!r}, not a model of it")
            if not group.errors <= group.accepted <= group.n:
                raise ValueError(f"group {group.group_id} has more errors or answers than rows")
        return self

    @property
    def certified(self) -> bool:
        """Whether the student may serve any group at all."""
        return any(group.arm == "student" for group in self.groups)

    def to_text(self) -> str:
        """The canonical document, sha256 included."""
        return canonical(self.model_dump()) + "\n"

    def least(self, group_id: str | None) -> float:
        """The least agreement promised of a group: the target, unless it is relative."""
        group = self.group(group_id)
        return self.target_agreement if group is None or group.least is None else group.least

    def group(self, group_id: str | None) -> GroupPolicy | None:
        """The policy of one group."""
        return next((g for g in self.groups if g.group_id == group_id), None)

    @property
    def expires_at(self) -> float:
        """The moment from which its certificates are void, seconds since 1970; inf: never."""
        if self.expires is None:
            return math.inf
        day = dt.date.fromisoformat(self.expires)
        return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()

    def void_because(self, running: Mapping[str, str]) -> str | None:
        """Why the certificates do not speak about what runs now; None if they do.

        Args:
            running: what is known of it: ``frontier`` (its model), and names of ``versions``.
        """
        certified = {"frontier": self.frontier.get("model", "")} | self.versions
        changed = [
            f"{name} is {now}, was {certified[name]}"
            for name, now in sorted(running.items())
            if certified.get(name, now) != now
        ]
        return f"the certificates are void: {'; '.join(changed)}" if changed else None


Canary.model_rebuild()


def seal(**fields: Any) -> PolicyBundle:
    """Make a bundle of its fields, with floats rounded as they will be read back."""
    bundle = PolicyBundle(**fields)
    plain = plain_numbers(bundle.model_dump(exclude={"sha256"}))
    return PolicyBundle.model_validate(plain | {"sha256": seal_of(plain)})


def with_canary(
    champion: PolicyBundle, challenger: PolicyBundle, stage: str, weight: float
) -> PolicyBundle:
    """The champion's policy, its promises untouched, with a challenger; more is shadowed meanwhile.

    Args:
        champion: a policy without canary; the parent of the new one.
        challenger: the policy that will replace it if the rollout ends well.
        stage: of the rollout.
        weight: share of conversations that the challenger may answer.
    """
    fields = champion.model_dump(exclude={"sha256", "schema_version", "parent", "canary"})
    fields["exploration_rate"] = max(champion.exploration_rate, ROLLOUT_RATE)
    canary = {"stage": stage, "weight": weight, "policy": challenger.model_dump()}
    return seal(**fields, parent=champion.sha256, canary=canary)


def load_bundle(text: str) -> PolicyBundle:
    """Read a policy document.

    Raises:
        BadBundle: in one line, if it is no JSON, of another schema, altered, or incomplete.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadBundle(f"policy refused: not JSON ({error})") from None
    if not isinstance(document, dict):
        raise BadBundle("policy refused: not a JSON object")
    if document.get("schema_version") not in READABLE:
        raise BadBundle(
            f"policy refused: schema version {document.get('schema_version')!r}, "
            f"this release reads {' and '.join(map(str, READABLE))}"
        )
    document.pop(SIGNATURE, None)
    claimed = document.pop("sha256", None)
    try:
        actual = seal_of(document)
    except ValueError as error:
        raise BadBundle(f"policy refused: {error}") from None
    if claimed != actual:
        raise BadBundle(f"policy refused: says sha256 {claimed!r}, its content has {actual}")
    try:
        return PolicyBundle.model_validate(document | {"sha256": claimed})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadBundle(f"policy refused: {where}: {first['msg']}") from None
