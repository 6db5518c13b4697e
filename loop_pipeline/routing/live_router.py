"""The router in a running process: a new policy takes over between two requests.

Not here: deciding (``router.py``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loop_pipeline.routing.policy import load_bundle
from loop_pipeline.routing.policy_files import load_signed
from loop_pipeline.routing.router import Router

log = logging.getLogger(__name__)


class LiveRouter:
    """Holds the router of the newest good policy; a bad or unreadable one changes nothing.

    A request takes ``current`` once and asks it both questions, before and after the call: the
    policy that decided also settles, whatever is loaded meanwhile, and nothing waits or is lost.
    """

    def __init__(
        self,
        read: Callable[[], str],
        folder: Path,
        *,
        secret: bytes | None,
        running: Mapping[str, str] | None = None,
        embedder_api_key: str = "",
        embedder_url: str = "",
    ) -> None:
        """Load the first policy.

        Args:
            read: gives the policy document now in force, from a file or from the store.
            folder: that the document's ``embedder_path`` is relative to.
            secret: of this installation, which has to have signed every policy that is obeyed; None
                where whoever can write the document is trusted as it is.
            running: as for ``Router.load``, like the others.
            embedder_api_key: of an embedder that is an endpoint.
            embedder_url: the only endpoint that texts and key are sent to.

        Raises:
            BadBundle: there is no good policy to start with.
        """
        self._read, self._folder, self._secret = read, folder, secret
        self._options: dict[str, Any] = {
            "running": running,
            "embedder_api_key": embedder_api_key,
            "embedder_url": embedder_url,
        }
        self._text = read()
        self._stop = threading.Event()
        self.current = self._load(self._text)
        self.problem: str | None = None

    def _load(self, text: str) -> Router:
        bundle = load_bundle(text) if self._secret is None else load_signed(text, self._secret)
        return Router.load(bundle, folder=self._folder, **self._options)

    def refresh(self) -> bool:
        """Load the policy in force if it is another one.

        Returns:
            Whether it was changed. If it could not be, ``problem`` says why in one line.
        """
        try:
            text = self._read()
            if text == self._text:
                self.problem = None
                return False
            router = self._load(text)
        except Exception as error:  # noqa: BLE001  whatever is wrong, the active policy stays
            problem = " ".join(f"{error}".split())[:300] or repr(error)
            if problem != self.problem:
                log.warning("policy %s stays: %s", self.current.bundle.sha256[:12], problem)
            self.problem = problem
            return False
        log.info("policy %s -> %s", self.current.bundle.sha256[:12], router.bundle.sha256[:12])
        self.current, self._text, self.problem = router, text, None
        return True

    def watch(self, seconds: float) -> threading.Thread:
        """Refresh every so many seconds, in a thread of its own, until ``close``."""

        def run() -> None:
            while not self._stop.wait(seconds):
                self.refresh()

        thread = threading.Thread(target=run, name="policy", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """End the watch."""
        self._stop.set()
