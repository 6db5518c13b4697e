"""Decides in about a millisecond who answers, and afterwards whether the answer may be served."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from loop_pipeline.groups.clustering import Assigner
from loop_pipeline.groups.embedding import MAX_CHARS, Embedder, request_text
from loop_pipeline.routing.policy import BadBundle, PolicyBundle, load_bundle
from loop_pipeline.routing.score import logprob_features, unservable
from loop_pipeline.traces.records import template_hash as hash_template


@dataclass(frozen=True, slots=True)
class Decision:
    """Who is asked first.

    ``adapter`` is the name the student is asked by, None for the frontier; a ``canary`` is judged
    by its own thresholds. ``propensity`` is the chance that all models answer this request (the
    shadow coin), the same for every request, so that shadowed requests are a uniform sample of
    traffic: each goes to the frontier and to every one of ``Router.adapters``. Escalated requests
    enter calibration only if ``shadow`` is set: that thins them with the same coin.
    """

    arm: Literal["student", "frontier"]
    group_id: str | None
    reason: str
    propensity: float
    shadow: bool
    adapter: str | None = None
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether the student's answer goes out."""

    action: Literal["serve", "escalate"]
    score: float | None
    threshold: float | None
    reason: str


def coin(key: str, rate: float, toss: str = "shadow") -> bool:
    """True for a share ``rate`` of keys, always the same ones; another toss draws others.

    Who is drawn at one rate is drawn at every higher one.
    """
    drawn = hashlib.sha256(f"{toss} {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:8], "big") < rate * 2**64


class Router:
    """One policy, loaded once and never changed: threads may share it, a new policy is a new one.

    Every doubt goes to the frontier with its reason; nothing here raises on a request.
    """

    def __init__(self, bundle: PolicyBundle, embedder: Embedder) -> None:
        if embedder.version != bundle.embedder_version:
            raise BadBundle(
                f"policy refused: made with embedder {bundle.embedder_version[:12]}, "
                f"this one is {embedder.version[:12]}"
            )
        self.bundle = bundle
        self._embedder = embedder
        self._groups = {g.group_id: g for g in bundle.groups}
        self._assign = Assigner(bundle.groups)
        self.canary: Router | None = None

    @classmethod
    def load(cls, source: Path | PolicyBundle, embedder: Embedder | None = None) -> Router:
        """Load a policy from its file, or take one as it is.

        Args:
            source: the bundle, or the path of its JSON.
            embedder: if absent, read from the bundle's ``embedder_path`` (relative to the file).

        Raises:
            BadBundle: if the document was altered, is of another schema, or the embedder is not
                the one it was made with.
        """
        folder = source.parent if isinstance(source, Path) else Path()
        bundle = load_bundle(source.read_text("utf-8")) if isinstance(source, Path) else source
        router = cls(bundle, embedder or Embedder.load(folder / bundle.embedder_path))
        if bundle.canary is not None:
            other = bundle.canary.policy
            same = other.embedder_version == bundle.embedder_version
            router.canary = cls(
                other, router._embedder if same else Embedder.load(folder / other.embedder_path)
            )
        return router

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the students in this policy: the champion's, then the canary's if any."""
        routers = (self, self.canary) if self.canary else (self,)
        return tuple(r.bundle.student["adapter"] for r in routers)

    def decide(
        self,
        messages: Sequence[Mapping[str, Any]],
        prompt_id: str,
        template_hash: str | None = None,
        *,
        conversation_id: str | None = None,
    ) -> Decision:
        """Who is asked first, before any model is called.

        Args:
            messages: the request.
            prompt_id: its key.
            template_hash: of its system messages; computed if absent.
            conversation_id: all requests of one conversation meet the same student, where both
                have a certificate for the group.
        """
        try:
            drawn = self._draws_canary(conversation_id or prompt_id)
        except Exception as error:  # noqa: BLE001  a router that raises would lose the request
            rate, reason = self.bundle.exploration_rate, f"the router failed: {error!r:.200}"
            return Decision("frontier", None, reason, rate, shadow=False)
        if drawn and self.canary is not None:
            chosen = self.canary.decide(messages, prompt_id, template_hash)
            if chosen.arm == "student":  # without a certificate of its own, the champion's holds
                return replace(chosen, canary=True)
        return self._decide(messages, prompt_id, template_hash)

    def _draws_canary(self, key: str) -> bool:
        canary = self.bundle.canary
        return canary is not None and coin(key, canary.weight, f"canary {canary.policy.sha256}")

    def _decide(
        self, messages: Sequence[Mapping[str, Any]], prompt_id: str, template_hash: str | None
    ) -> Decision:
        group_id, rate, shadow = None, self.bundle.exploration_rate, False
        try:
            shadow = coin(prompt_id, rate)
            group_id, reason = self._group_of(messages, template_hash)
            group = self._groups.get(group_id or "")
        except Exception as error:  # noqa: BLE001  see decide
            return Decision(
                "frontier", group_id, f"the router failed: {error!r:.200}", rate, shadow
            )
        if group is None:
            return Decision("frontier", None, reason, rate, shadow)
        adapter = self.bundle.student.get("adapter") if group.arm == "student" else None
        return Decision(group.arm, group_id, group.reason, rate, shadow, adapter)

    def _group_of(
        self, messages: Sequence[Mapping[str, Any]], template: str | None
    ) -> tuple[str | None, str]:
        text = request_text(messages)
        if not text.strip():
            return None, "the request has no text, or not only text"
        if len(text) > MAX_CHARS:
            return None, f"the request has {len(text)} characters, the router reads {MAX_CHARS}"
        vector = self._embedder.transform([text])[0]
        if not vector.any():
            return None, "nothing in the request was ever seen before"
        group_id, distance = self._assign(vector, template or hash_template(messages))
        if np.isnan(distance):
            return None, "unknown prompt template"
        return group_id, f"unassigned: {distance:.3f} from the nearest task group"

    def settle(
        self,
        decision: Decision,
        answer_text: str,
        token_logprobs: Sequence[float] | None,
        contract: dict[str, Any] | None = None,
        *,
        finish_reason: str | None = None,
        request_text: str = "",
        tokens_out: int | None = None,
    ) -> Settled:
        """Whether the student's answer may be served, once it is there.

        Args:
            decision: what ``decide`` said.
            answer_text: the student's answer.
            token_logprobs: log-probability of each of its tokens.
            contract: what the answer must look like.
            finish_reason: as the server reports it; anything but "stop" escalates.
            request_text: of the request, for contracts that quote it.
            tokens_out: as the server counts them, which is what the score was fitted on.
        """
        judge = self.canary if decision.canary and self.canary else self
        group = judge._groups.get(decision.group_id or "")
        if decision.arm != "student" or group is None or group.threshold is None:
            return Settled("escalate", None, None, "the policy sends this request to the frontier")
        try:
            held = unservable(answer_text, finish_reason, contract, request_text)
            if held or not token_logprobs:
                return Settled("escalate", None, group.threshold, held or "no log-probabilities")
            score = judge.bundle.score.value(logprob_features(token_logprobs, tokens_out))
        except Exception as error:  # noqa: BLE001  see decide
            reason = f"the router failed: {error!r:.200}"
            return Settled("escalate", None, group.threshold, reason)
        if score >= group.threshold:
            return Settled("serve", score, group.threshold, "sure enough")
        return Settled("escalate", score, group.threshold, "not sure enough")
