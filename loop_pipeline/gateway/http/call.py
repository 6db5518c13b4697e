"""What is known of one request beside its body: who asks, which ids it has, what it cost so far.

Not here: reading a body (``formats``), and answering (``answering.py``).
"""

from __future__ import annotations

import datetime as dt
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from loop_pipeline.gateway.access.access import Caller
from loop_pipeline.gateway.formats.exchange import Request
from loop_pipeline.gateway.frontier import header_rules
from loop_pipeline.gateway.http import counters
from loop_pipeline.gateway.http.asgi import Headers, ascii_value
from loop_pipeline.installation_secret import keyed_digest

# An id of the client's own: it becomes part of `chatcmpl-…` and of file lines.
_PROMPT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# Of a digest that stands for a person or a conversation.
DIGEST = 16
MOST_NAME = 256


@dataclass(slots=True)
class Call:
    """One request on its way. Times are of ``time.perf_counter``, in seconds."""

    caller: Caller
    headers: Mapping[bytes, bytes]
    given: Headers
    """The same as they came, names that come twice included."""
    began: float = field(default_factory=time.perf_counter)
    ts: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    prompt_id: str = ""
    body: bytes = b""
    request: Request | None = None
    user_hash: str | None = None
    conversation_id: str | None = None
    model: str = ""
    usd: float = 0.0
    status: int = 200
    """That the client gets, or would get if it had not been told 200 already."""
    kept: bool = False
    elsewhere: float = 0.0
    """Seconds that the frontier and students took."""
    first_byte: float | None = None
    took: float | None = None
    attempts: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)
    """Headers of the client's distributed trace, for our own servers."""
    route: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str | None:
        """As the client names it."""
        return _named(self.headers, b"x-loop-task")

    @property
    def captured(self) -> bool:
        """Whether the client did not say that nothing is to be kept."""
        return self.headers.get(b"x-loop-capture", b"").lower() != b"off"

    @property
    def forced(self) -> bool:
        """Whether the client wants the frontier's answer."""
        return self.headers.get(b"x-loop-route", b"").lower() == b"frontier"

    @property
    def retries(self) -> int:
        """How often the client's library has asked this before: not "the user asked again"."""
        count = self.headers.get(b"x-stainless-retry-count", b"")
        return int(count) if count.isdigit() and len(count) < 4 else 0

    @property
    def client_timeout_s(self) -> float | None:
        """How long the client waits, if it says so."""
        for name in (b"x-stainless-read-timeout", b"x-stainless-timeout"):
            try:
                seconds = float(self.headers.get(name, b""))
            except ValueError:
                continue
            if 0 < seconds < 1e6:
                return seconds
        return None

    def overhead_ms(self) -> float:
        """What the gateway itself took, until now or until its answer began."""
        if self.took is None:
            return round((time.perf_counter() - self.began - self.elsewhere) * 1000, 3)
        return self.took

    def answered(self) -> None:
        """The answer begins: the gateway's own time is over."""
        if self.took is None:
            self.took = self.overhead_ms()
            counters.overhead.observe(self.took / 1000)

    def identify(self, secret: bytes) -> None:
        """Find prompt id, user and conversation, once the request is read."""
        given = self.headers.get(b"x-loop-prompt-id", b"").decode("latin-1")
        self.trace = header_rules.to_ours(self.headers, _new_span)
        self.prompt_id = given if _PROMPT_ID.fullmatch(given) else new_prompt_id()
        request = self.request
        user = _named(self.headers, b"x-loop-user") or (request.user if request else None)
        if user:
            self.user_hash = keyed_digest(secret, "user", user)[:DIGEST]
        self.conversation_id = _named(self.headers, b"x-loop-conversation")
        if self.conversation_id is None and request is not None:
            first = orjson.dumps([self.caller.key_id, user, request.messages[:2]]).decode()
            self.conversation_id = keyed_digest(secret, "conversation", first)[: 2 * DIGEST]

    def holds_to(self, contract: dict[str, Any] | None) -> None:
        """Note what the answer has to look like, where the request did not say so itself."""
        request = self.request
        if contract and request is not None and request.contract is None and not request.tools:
            self.request = replace(request, contract=contract)

    def own_headers(self, *, who: str, model: str, reason: str, policy: str | None) -> Headers:
        """What the client is told: its prompt id, who answers and why.

        Args:
            who: ``student``, ``escalated`` or ``frontier``.
            model: that answers.
            reason: in words.
            policy: sha256 of the one in force.
        """
        told = [
            (b"x-loop-prompt-id", self.prompt_id.encode()),
            (b"x-loop-route", who.encode()),
            (b"x-loop-reason", ascii_value(reason)),
            (b"x-loop-model", ascii_value(model)),
        ]
        if policy:
            told.append((b"x-loop-policy", policy.encode()))
        return told


def _new_span() -> str:
    return os.urandom(8).hex()


def new_prompt_id() -> str:
    """Unguessable, and in the order of time, which indexes like."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def _named(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return value.decode("utf-8", "replace").strip()[:MOST_NAME] or None if value else None
