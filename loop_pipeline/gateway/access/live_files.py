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

from loop_pipeline.gateway.access.access import OPEN, Access
from loop_pipeline.labels.hallucination.habits.habit_files import FOLDER, read_habits
from loop_pipeline.labels.hallucination.habits.wording_habit import Habit
from loop_pipeline.routing.live_router import LiveRouter
from loop_pipeline.routing.router import Router

# Between two looks at the files.
LOOK_S = 0.5
POLICY, KEYS, HOLDS = "policy.json", "keys.json", "holds.json"
CONTRACTS = "contracts.json"

_log = logging.getLogger(__name__)


class _Watched:
    """One file, and whether it is another one than at the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> bool:
        try:
            stat = self.path.stat()
        except OSError:
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
        self,
        folder: Path,
        policies: Path,
        access: Access,
        running: Mapping[str, str],
        *,
        secret: bytes = b"",
        embedder_url: str = "",
        embedder_api_key: str = "",
        detector: str = "",
    ) -> None:
        """Read the keys and the holds.

        Args:
            folder: where the copies lie.
            policies: that a policy's ``embedder_path`` is relative to.
            access: takes the keys.
            running: as for ``Router.load``.
            secret: of the installation, which has to have signed a policy; without it none is used.
            embedder_url: the only endpoint that texts are sent to, where the embedder is one.
            embedder_api_key: of that endpoint.
            detector: version of the one that judges answers; habits learned with another are none.
        """
        self._access, self._policies, self._secret = access, policies, secret
        self._options: dict[str, Any] = {
            "running": running,
            "embedder_url": embedder_url,
            "embedder_api_key": embedder_api_key,
        }
        self._keys = _Watched(folder / KEYS)
        self._holds = _Watched(folder / HOLDS)
        self._contracts = _Watched(folder / CONTRACTS)
        self._policy = _Watched(folder / POLICY)
        # A file that is written whole changes its folder.
        self._habits, self._detector = _Watched(policies.parent / FOLDER), detector
        self.habits: Mapping[str, Habit] = {}
        """How the answers to templates use words, as the newest daily step learned it."""
        self._live: LiveRouter | None = None
        self._waits = False
        self._stop = threading.Event()
        self.held: frozenset[str] = frozenset()
        self.shadow_rates: Mapping[str, float] = {}
        """By group: the share of its requests that everybody answers, if not the policy's."""
        self.contracts: Mapping[str, Mapping[str, Any]] = {}
        """Contracts by app and task."""
        self.looked = False
        """Whether the policy was looked for, so that it is known if there is one."""
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
        self.looked = True

    def _read_small(self) -> None:
        if _take(self._keys, self._take_keys) is False and not self._access.keys:
            # Who may call is not known, and that is no reason to let everybody in.
            self._access.required = True
        _take(self._holds, self._hold)
        _take(self._contracts, self._take_contracts)
        if self._habits.changed():
            self.habits = read_habits(self._habits.path, self._detector)

    def _take_keys(self, document: Mapping[str, Any]) -> None:
        if type(document["required"]) is not bool or not all(map(_is_key, document["keys"])):
            raise ValueError("not the keys of a gateway")
        self._access.take(document)

    def _hold(self, document: Mapping[str, Any]) -> None:
        groups = document["groups"]
        if not isinstance(groups, list) or not all(isinstance(name, str) for name in groups):
            raise TypeError("not a list of groups")
        rates = document.get("shadow", {})
        if not all(isinstance(rate, int | float) and 0 <= rate <= 1 for rate in rates.values()):
            raise TypeError("not shares by group")
        self.held, self.shadow_rates = frozenset(groups), rates

    def _take_contracts(self, document: Mapping[str, Any]) -> None:
        apps = document["apps"]
        if not all(isinstance(tasks, dict) for tasks in apps.values()):
            raise TypeError("not contracts by app and task")
        self.contracts = apps

    def contract_of(self, app: str, task: str) -> Mapping[str, Any] | None:
        """What the answers to a task of an app have to look like, if that is known.

        Without keys nobody says which app asks, and the traffic learned from has the name that its
        log gave it: then the contract counts that all apps with such a task share.
        """
        found = self.contracts.get(app, {}).get(task)
        if found is None and app == OPEN.app:
            of_all = [tasks[task] for tasks in self.contracts.values() if task in tasks]
            found = of_all[0] if of_all and all(one == of_all[0] for one in of_all) else None
        return found if isinstance(found, dict) else None

    def _read_policy(self) -> None:
        text = self._policy.path.read_text
        try:
            if not self._policy.path.stat().st_size:
                self._live, self._waits, self.problem = None, False, "there is no policy"
                return
            if self._live is None:
                self._live = LiveRouter(
                    lambda: text("utf-8"), self._policies, secret=self._secret, **self._options
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


def _take(file: _Watched, take: Callable[[Mapping[str, Any]], None]) -> bool | None:
    """Whether a changed file could be used; None if it is not another one."""
    if not file.changed():
        return None
    try:
        take(json.loads(file.path.read_text("utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        # The text of the error may hold a part of the file; its kind says enough.
        _log.error(
            "%s cannot be used (%s); what was read before stays", file.path, type(error).__name__
        )
        return False
    return True


# What a key has, and of which type.
KEY_FIELDS: Mapping[str, tuple[type, ...]] = {
    "sha256": (str,),
    "name": (str,),
    "app": (str,),
    "roles": (list,),
    "limits": (dict, type(None)),
    "expires_at": (int, float, type(None)),
}


def _is_key(row: Any) -> bool:
    return isinstance(row, dict) and all(
        isinstance(row.get(name), kinds) for name, kinds in KEY_FIELDS.items()
    )
