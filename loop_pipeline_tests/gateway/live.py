"""A worker of the gateway in a thread of the test, and what it wrote down."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from loop_pipeline.gateway.asking.hidden_values import Hide, as_it_is
from loop_pipeline.gateway.config import GatewayConfig, Secrets
from loop_pipeline.gateway.worker import Worker
from loop_pipeline_tests.upstream import listener

CONFIG = GatewayConfig(
    home="",
    host="127.0.0.1",
    port=0,
    workers=1,
    auth="keys",
    frontier_urls=(),
    frontier_model="gpt-5.5",
    anthropic_urls=(),
    frontier_timeout_s=30,
    student_urls=(),
    student_patience_ms=2000,
    max_answer_tokens=256,
    capture="on",
    capture_sync_ms=50,
    spool_max_bytes=2**31,
    app="",
    detector_file=None,
)
SECRETS = Secrets("sk-vendor-planted", "sk-ant-planted", "", "s" * 64)
ASKED: dict[str, Any] = {
    "model": "gpt-5.5",
    "messages": [
        {"role": "system", "content": "Classify the request."},
        {"role": "user", "content": "where is my order?"},
    ],
}


class Live:
    """One worker that answers on a port of its own."""

    def __init__(self, config: GatewayConfig, hide: Hide = as_it_is) -> None:
        self.config = config
        self._listener = listener()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.worker = Worker(config, SECRETS, hide)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: self.worker.started)

    def _run(self) -> None:
        asyncio.run(self.worker.serve([self._listener]))

    def stop(self) -> None:
        """End it as SIGTERM does; once more changes nothing."""
        self.worker.handle_exit(15, None)
        self._thread.join(40)
        assert not self._thread.is_alive()

    def post(self, path: str = "/v1/chat/completions", **arguments: Any) -> requests.Response:
        """POST; ``json`` is a plain chat request unless it is given."""
        if "data" not in arguments:
            arguments.setdefault("json", ASKED)
        return requests.post(self.url + path, timeout=30, **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        """GET."""
        return requests.get(self.url + path, timeout=30, **arguments)

    def rows(self) -> list[dict[str, Any]]:
        """What is in the spool, oldest first."""
        found = sorted(Path(self.config.home, "spool").glob("*-*"))
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]

    def row(self, prompt_id: str) -> dict[str, Any]:
        """The trace of a request."""
        (found,) = [row for row in self.rows() if row["prompt_id"] == prompt_id]
        return found


@contextmanager
def live(home: Path, *urls: str, hide: Hide = as_it_is, **changes: Any) -> Iterator[Live]:
    """A worker whose frontier is at these URLs."""
    values = {"home": str(home), "frontier_urls": urls, "anthropic_urls": urls} | changes
    home.mkdir(parents=True, exist_ok=True)
    (home / "gateway").mkdir(exist_ok=True)
    running = Live(replace(CONFIG, **values), hide)
    try:
        yield running
    finally:
        running.stop()


def wait_for(true: Callable[[], Any], seconds: float = 60) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
