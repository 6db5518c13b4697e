"""Who calls, by the key they show, and what they may do.

Not here: how much (``limits.py``), and where the keys come from (``copies.py``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_pipeline.gateway.access.limits import Limits, NoLimits

ROLES = frozenset({"call", "feedback", "ingest", "admin"})
# A provider's key that the frontier accepted is good for students for so long.
VOUCHED_S = 3600.0
# So many are remembered; the oldest go.
MOST_VOUCHED = 10_000


class Denied(Exception):
    """The caller may not do this; nothing of what they showed is part of the text."""

    def __init__(self, status: int, code: str, said: str, retry_after: int | None = None) -> None:
        super().__init__(said)
        self.status, self.code, self.retry_after = status, code, retry_after


@dataclass(frozen=True, slots=True)
class Caller:
    """An application: ``key_id`` is a digest of its key, ``fence`` what its feedback counts on.

    ``own_key``: their own provider key goes on to the frontier; ``vouched``: the frontier accepted
    it of late, so students may answer.
    """

    key_id: str
    name: str
    app: str
    roles: frozenset[str]
    limits: Limits | NoLimits
    fence: str | None
    own_key: bool = False
    vouched: bool = True

    def must(self, role: str) -> None:
        """Raises Denied without the role."""
        if role not in self.roles:
            raise Denied(403, "loop_role", f"this key has not the role {role!r}")


@dataclass(slots=True)
class _Key:
    caller: Caller
    expires_at: float | None


@dataclass(slots=True)
class Access:
    """The keys as last read, and what is known of those that are passed through."""

    loopback: bool
    passthrough: bool
    keys: dict[str, _Key] = field(default_factory=dict)
    required: bool = False
    used: Path | None = None
    """Folder in which all workers count what keys with limits use."""
    _vouched: dict[str, float] = field(default_factory=dict)

    def take(self, document: Mapping[str, Any]) -> None:
        """Put the keys of a document in force. What a key has used up today stays."""
        fresh: dict[str, _Key] = {}
        for row in document.get("keys", []):
            digest = row["sha256"]
            before = self.keys.get(digest)
            limits: Limits | NoLimits = NoLimits()
            if row.get("limits"):
                kept = before.caller.limits if before else None
                limits = kept if isinstance(kept, Limits) else Limits(self._counted_in(digest))
                limits.set(row["limits"])
            caller = Caller(
                key_id=digest,
                name=row["name"],
                app=row["app"],
                roles=frozenset(row["roles"]),
                limits=limits,
                fence=row["app"],
            )
            fresh[digest] = _Key(caller, row.get("expires_at"))
        # Who revokes the last key does not want the door open.
        self.required = bool(document.get("required", fresh))
        self.keys = fresh

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Who this is.

        Raises:
            Denied: no key where one is needed, or one that is unknown, expired or revoked.
        """
        shown = _shown(headers)
        if shown:
            digest = hashlib.sha256(shown).hexdigest()
            if (found := self.keys.get(digest)) is not None:
                if found.expires_at is not None and found.expires_at <= time.time():
                    raise Denied(401, "loop_key_expired", "this key has expired")
                return found.caller
            if self.passthrough:
                return self._passed(digest)
        if self.passthrough:
            return self._passed("")
        if self.loopback and not self.required:
            return OPEN
        raise Denied(
            401, "loop_key_unknown", "no key of this gateway: make one with `loop keys add`"
        )

    def vouch(self, caller: Caller) -> None:
        """The frontier accepted the caller's own key."""
        if caller.own_key and caller.key_id:
            self._vouched.pop(caller.key_id, None)
            self._vouched[caller.key_id] = time.monotonic()
            if len(self._vouched) > MOST_VOUCHED:
                del self._vouched[next(iter(self._vouched))]

    def _counted_in(self, digest: str) -> Path | None:
        return self.used / f"{digest}.json" if self.used else None

    def _passed(self, digest: str) -> Caller:
        since = self._vouched.get(digest)
        vouched = since is not None and time.monotonic() - since < VOUCHED_S
        roles = frozenset({"call", "feedback"} if vouched else {"call"})
        return Caller(digest, "own key", "default", roles, NoLimits(), "default", True, vouched)


OPEN = Caller("", "anybody here", "default", ROLES, NoLimits(), None)


def _shown(headers: Mapping[bytes, bytes]) -> bytes:
    """The key, however the client's library sends it; browsers send it as a password."""
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        return value.strip()
    if kind.lower() == b"basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return headers.get(b"x-api-key") or headers.get(b"api-key") or b""
