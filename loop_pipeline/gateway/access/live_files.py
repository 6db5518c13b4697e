"""What a worker knows of the store: files that its parent copies, read again when they change.

Not here: writing them (``copies.py``).
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.gateway.access.access import Access
from loop_pipeline.routing.live_router import LiveRouter
from loop_pipeline.routing.router import Router

# Between two looks at the files.
LOOK_S = 0.5
POLICY, KEYS, HOLDS = "policy.json", "keys.json", "holds.json"

_log = logging.getLogger(__name__)


class _Watched:
    """One file, and whether it is another one than at the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return False
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        return True


class LiveFiles:
    """Policy, keys and holds in force. A file that cannot be used changes nothing.

    Keys are read before the first request, so that nobody is let in meanwhile; the policy is read
    by a thread, as its embedder takes a moment, and until it is there everything is the frontier's.
    """

    def __init__(
        self, folder: Path, policies: Path, access: Access, running: Mapping[str, str]
    ) -> None:
        """Read the keys and the holds.

        Args:
            folder: where the copies lie.
            policies: that a policy's ``embedder_path`` is relative to.
            access: takes the keys.
            running: as for ``Router.load``.
        """
        self._access, self._policies, self._running = access, policies, running
        self._keys = _Watched(folder / KEYS)
        self._holds = _Watched(folder / HOLDS)
        self._policy = _Watched(folder / POLICY)
        self._live: LiveRouter | None = None
        self._waits = False
        self._stop = threading.Event()
        self.held: frozenset[str] = frozenset()
        self.problem: str | None = "there is no policy yet"
        self._read_small()

    @property
    def router(self) -> Router | None:
        """The router in force; None while there is no good policy."""
        return self._live.current if self._live is not None else None

    def watch(self) -> None:
        """Look at the files in a thread of its own until ``close``."""
        self._thread = threading.Thread(target=self._run, name="live files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.look()
            if self._stop.wait(LOOK_S):
                return

    def look(self) -> None:
        """Take in what has changed."""
        self._read_small()
        # What could not be loaded is tried again: its embedder may have come meanwhile.
        if self._policy.changed() or self._waits:
            self._read_policy()

    def _read_small(self) -> None:
        _take(self._keys, self._access.take)
        _take(self._holds, self._hold)

    def _hold(self, document: Mapping[str, Any]) -> None:
        self.held = frozenset(document["groups"])

    def _read_policy(self) -> None:
        text = self._policy.path.read_text
        try:
            if not self._policy.path.stat().st_size:
                self._live, self._waits, self.problem = None, False, "there is no policy"
                return
            if self._live is None:
                self._live = LiveRouter(
                    lambda: text("utf-8"), self._policies, running=self._running
                )
            else:
                self._live.refresh()
            problem = self._live.problem
        except Exception as error:  # noqa: BLE001  whatever is wrong, the frontier answers
            problem = " ".join(f"{error}".split())[:300] or repr(error)
        self._waits = problem is not None
        if problem != self.problem and problem is not None:
            _log.warning("policy not loaded: %s", problem)
        self.problem = problem


def _take(file: _Watched, take: Callable[[Mapping[str, Any]], None]) -> None:
    if not file.changed():
        return
    try:
        take(json.loads(file.path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        # The text of the error may hold a part of the file; its kind says enough.
        _log.error(
            "%s cannot be used (%s); what was read before stays", file.path, type(error).__name__
        )
