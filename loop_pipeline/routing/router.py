"""Decides in about a millisecond who answers, and afterwards whether the answer may go out.

Not here: pandas, scikit-learn, and anything that waits: it runs inside an application.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from loop_pipeline.answers.contract import SLIP, in_form
from loop_pipeline.confidence.answer_score import ScoreWeights, logprob_features, unservable
from loop_pipeline.confidence.request_score import RequestScore
from loop_pipeline.groups.assignment import Assigner
from loop_pipeline.groups.embedding.embedder import Floats, unit
from loop_pipeline.groups.embedding.model_embedder import TextEmbedder
from loop_pipeline.routing.decision import Asked, Decision, Settled, Text, embed, unread
from loop_pipeline.routing.policy import GroupPolicy, PolicyBundle
from loop_pipeline.routing.policy_files import check_embedder, policy_embedder, read_policy
from loop_pipeline.stats.sampling import coin, shadow_coin
from loop_pipeline.traces.messages import request_text
from loop_pipeline.traces.messages import template_hash as hash_template


class Router:
    """One policy, loaded once and never changed: threads may share it, a new policy is a new one.

    Every doubt goes to the frontier with its reason; nothing here raises on a request.
    """

    def __init__(
        self, bundle: PolicyBundle, embedder: TextEmbedder, running: Mapping[str, str] | None = None
    ) -> None:
        check_embedder(bundle, embedder)
        self.bundle = bundle
        self._embedder = embedder
        self._groups = {g.group_id: g for g in bundle.groups}
        self._assign = Assigner(bundle.groups)
        self._others = {model.name: model for model in bundle.others}
        self._void = bundle.void_because(running or {})
        self._expires = bundle.expires_at
        self.canary: Router | None = None

    @classmethod
    def load(
        cls,
        source: Path | PolicyBundle,
        embedder: TextEmbedder | None = None,
        *,
        folder: Path | None = None,
        running: Mapping[str, str] | None = None,
        secret: bytes | None = None,
        embedder_api_key: str = "",
        embedder_url: str = "",
    ) -> Router:
        """Load a policy from its file, or take one as it is.

        Args:
            source: the bundle, or the path of its JSON.
            embedder: if absent, read from the bundle's ``embedder_path``.
            folder: that path is relative to; if absent, the file's.
            running: what is known of what runs here: ``frontier`` (its model), ``detector``,
                ``decoding``. If the certificates speak about something else they are void, and
                everything goes to the frontier.
            secret: of the installation that has to have signed a document read from its file.
            embedder_api_key: of an embedder that is an endpoint.
            embedder_url: the only endpoint that texts and key are sent to (LOOP_EMBEDDER).

        Raises:
            BadBundle: if the document was altered, is of another schema or not signed, or the
                embedder is damaged or not the one it was made with.
        """
        folder = folder or (source.parent if isinstance(source, Path) else Path())
        bundle = read_policy(source, secret) if isinstance(source, Path) else source
        access = embedder_api_key, embedder_url
        embedder = embedder or policy_embedder(folder / bundle.embedder_path, *access)
        router = cls(bundle, embedder, running)
        if bundle.canary is not None:
            other = bundle.canary.policy
            same = other.embedder_version == bundle.embedder_version
            path = folder / other.embedder_path
            embedder = router._embedder if same else policy_embedder(path, *access)
            router.canary = cls(other, embedder, running)
        return router

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the cheaper models: the champion, the canary's student, other upstreams."""
        routers = (self, self.canary) if self.canary else (self,)
        students = [r.bundle.student["adapter"] for r in routers]
        students = [name for name in students if name]
        return tuple(dict.fromkeys([*students, *(name for r in routers for name in r._others)]))

    def task_of(self, group_id: str | None) -> str | None:
        """The task of a group, if it has one."""
        group = self._groups.get(group_id or "")
        return group.task if group is not None else None

    def decide(
        self,
        messages: Sequence[Mapping[str, Any]],
        prompt_id: str,
        template_hash: str | None = None,
        *,
        conversation_id: str | None = None,
        app: str = "",
    ) -> Decision:
        """Who is asked first, before any model is called.

        Args:
            messages: the request.
            prompt_id: its key.
            template_hash: of its system messages; computed if absent.
            conversation_id: all requests of one conversation meet the same student, where both
                have a certificate for the group.
            app: that the request is of; a policy for one app sends all others to the frontier.
        """
        asked = Asked(messages, prompt_id, template_hash, conversation_id, app)
        return self._decide(asked, self._seen(asked))

    def decide_many(self, requests: Sequence[Asked]) -> list[Decision]:
        """What ``decide`` says of each, the texts embedded together: that is most of the work."""
        known = [self._seen(asked) for asked in requests]
        routers = dict.fromkeys((self, self.canary) if self.canary else (self,))
        for embedder in {id(r._embedder): r._embedder for r in routers}.values():
            embed([text for text in known if isinstance(text, Text)], embedder)
        return [self._decide(asked, text) for asked, text in zip(requests, known, strict=True)]

    def _seen(self, asked: Asked) -> Text | Exception:
        try:
            return Text(request_text(asked.messages))
        except Exception as error:  # noqa: BLE001  see _decide
            return error

    def _decide(self, asked: Asked, text: Text | Exception) -> Decision:
        rate, app = self.bundle.exploration_rate, self.bundle.app
        if app and asked.app != app:
            # No chance of a shadow: it is no part of the traffic that the evidence is drawn from.
            return Decision("frontier", None, f"the policy is for app {app}", 0.0, shadow=False)
        try:
            drawn = self._draws_canary(asked.conversation_id or asked.prompt_id)
        except Exception as error:  # noqa: BLE001  a router that raises would lose the request
            reason = f"the router failed: {error!r:.200}"
            return Decision("frontier", None, reason, rate, shadow=False)
        if drawn and self.canary is not None:
            # One coin for all requests: the shadow share is that of the policy in force.
            chosen = self.canary._decide_alone(asked, text, rate)
            if chosen.arm == "student":  # without a certificate of its own, the champion's holds
                return replace(chosen, canary=True)
        return self._decide_alone(asked, text, rate)

    def _draws_canary(self, key: str) -> bool:
        canary = self.bundle.canary
        return canary is not None and (coin(f"canary {canary.policy.sha256}", key) < canary.weight)

    def _decide_alone(self, asked: Asked, text: Text | Exception, rate: float) -> Decision:
        shadow = False
        try:
            shadow = shadow_coin(asked.prompt_id) < rate
            if isinstance(text, Exception):
                raise text
            group_id, reason, model, score = self._first(asked, text)
        except Exception as error:  # noqa: BLE001  see _decide
            return Decision("frontier", None, f"the router failed: {error!r:.200}", rate, shadow)
        arm = "frontier" if model is None else "student"
        return Decision(arm, group_id, reason, rate, shadow, model, score=score)

    def _first(self, asked: Asked, given: Text) -> tuple[str | None, str, str | None, float | None]:
        """Group, reason, name of the cheaper model to ask (None: the frontier) and its score."""
        text = given.text
        if (why := unread(text)) is not None:
            return None, why, None, None
        vector = given.vector(self._embedder)
        template = asked.template_hash or hash_template(asked.messages)
        group_id, distance = self._assign(vector, template)
        group = self._groups.get(group_id or "")
        if group is None:
            far = f"unassigned: {distance:.3f} from the nearest task group"
            if (known := float(np.linalg.norm(vector))) <= self._embedder.floor:
                far = f"the request is unlike anything seen: {known:.0%} of it is familiar"
            return None, "unknown prompt template" if np.isnan(distance) else far, None, None
        return group_id, *self._model_for(group, text, vector)

    def _model_for(
        self, group: GroupPolicy, text: str, vector: Floats
    ) -> tuple[str, str | None, float | None]:
        if group.arm == "frontier" or group.threshold is None:
            return group.reason, None, None
        if time.time() >= self._expires:
            return f"the certificates expired on {self.bundle.expires}", None, None
        if self._void:
            return self._void, None, None
        weights, score, note = self._score_of(group), None, ""
        if isinstance(weights, RequestScore):
            score, note = weights.scored(text, unit(vector[None])[0])
            if not score >= group.threshold:
                return f"not sure enough before the call{note}", None, score
        return group.reason + note, group.model or self.bundle.student["adapter"], score

    def _score_of(self, group: GroupPolicy) -> ScoreWeights | RequestScore:
        return self._others[group.model].score if group.model else self.bundle.score

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
        """Whether the student's answer may be served; of a slip of form, its plain form is.

        Args:
            decision: what ``decide`` said.
            answer_text: the student's answer.
            token_logprobs: log-probability of each of its tokens.
            contract: what the answer must look like.
            finish_reason: as the server reports it; anything but "stop" escalates.
            request_text: all that the answer may rest on, see ``traces.messages.source_text``.
            tokens_out: as the server counts them, which is what the score was fitted on.
        """
        judge = self.canary if decision.canary and self.canary else self
        group = judge._groups.get(decision.group_id or "")
        if decision.arm != "student" or group is None or group.threshold is None:
            return Settled("escalate", None, None, "the policy sends this request to the frontier")
        try:
            text = in_form(answer_text, contract)
            held = unservable(answer_text, finish_reason, contract, request_text)
            weights, score = judge._score_of(group), decision.score
            if not isinstance(weights, RequestScore) and not held:
                held = None if token_logprobs else "no log-probabilities"
                if token_logprobs:
                    score = weights.value(logprob_features(token_logprobs, tokens_out))
            if held or score is None:
                return Settled("escalate", score, group.threshold, held or "it was never scored")
        except Exception as error:  # noqa: BLE001  see decide
            reason = f"the router failed: {error!r:.200}"
            return Settled("escalate", None, group.threshold, reason)
        if score >= group.threshold:
            plain = "" if text == answer_text else f", served without its {SLIP}"
            return Settled("serve", score, group.threshold, f"sure enough{plain}", text)
        return Settled("escalate", score, group.threshold, "not sure enough")
