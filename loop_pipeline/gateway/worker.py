"""One worker process: its parts, and the server that runs until it is told to end.

Not here: starting workers (``parent.py``), and the routes (``app.py``).
"""

from __future__ import annotations

import datetime as dt
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from loop_pipeline.costs.prices import Prices, prices_of
from loop_pipeline.gateway.access import used_up
from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.live_files import LiveFiles
from loop_pipeline.gateway.app import Exact, make_app
from loop_pipeline.gateway.asking.hidden_values import Hide, as_it_is
from loop_pipeline.gateway.asking.patience import Patience
from loop_pipeline.gateway.capture import Capture
from loop_pipeline.gateway.cascade import Cascade
from loop_pipeline.gateway.config import GatewayConfig, Secrets, config_from_text, secrets_of
from loop_pipeline.gateway.frontier.forward import Frontier
from loop_pipeline.gateway.http.asgi import Receive, Scope, Send
from loop_pipeline.gateway.http.page_proxy import page_session
from loop_pipeline.gateway.http.parts import Parts
from loop_pipeline.gateway.students import Students
from loop_pipeline.gateway.upstream.pool import Pool
from loop_pipeline.labels.hallucination.tiers import Tiers
from loop_pipeline.labels.hallucination.wording_score import Detector, load_detector, shipped

# What is being answered when the worker is told to end may go on for so long.
FINISH_S = 30
# A client's idle connection is kept for so long: longer than most clients' own patience.
IDLE_S = 75
# New objects until the youngest are looked through for rings: a request leaves hardly any, and
# Python's own 700 are reached every few requests.
GC_OBJECTS = 20_000
# Some model that is looked up: it makes the list of prices be read.
ANY_MODEL = "gpt-5.5"

_log = logging.getLogger(__name__)


async def make_parts(config: GatewayConfig, secrets: Secrets, hide: Hide = as_it_is) -> Parts:
    """What a worker is made of, ready to answer; in its event loop.

    Args:
        config: of the gateway.
        secrets: that only processes know.
        hide: takes personal data out of whatever is written down or asked of a student.
    """
    used = config.folder / used_up.FOLDER
    access = Access(config.loopback, config.auth == "passthrough", used=used)
    running = {"frontier": config.frontier_model} if config.frontier_model else {}
    files = LiveFiles(
        config.folder,
        config.policies,
        access,
        running,
        secret=secrets.installation.encode(),
        embedder_url=config.embedder,
        embedder_api_key=secrets.embedder,
        detector=detector_of(config).version,
    )
    capture = Capture(
        config.spool, sync_ms=config.capture_sync_ms, max_bytes=config.spool_max_bytes
    )
    pool = Pool()
    parts = Parts(
        config=config,
        secrets=secrets,
        access=access,
        files=files,
        capture=capture,
        cascade=make_cascade(config, secrets, files, pool, hide),
        frontier=Frontier(config.frontier_timeout_s),
        students=pool,
        page=page_session(config.folder),
        hide=hide,
        prices=_prices(config),
    )
    files.watch()
    return parts


def _prices(config: GatewayConfig) -> Prices:
    """Those of the settings; the list is read now, or the first request would wait for it."""
    prices = prices_of(Path(config.prices_file) if config.prices_file else None)
    prices.of(config.frontier_model or ANY_MODEL, dt.datetime.now(dt.UTC))
    return prices


async def close_parts(parts: Parts) -> None:
    """Shadows first, as they write; the segments are sealed last."""
    parts.files.close()
    await parts.cascade.close(FINISH_S)
    await parts.frontier.close()
    parts.students.close()
    await parts.page.close()
    parts.capture.close()


def make_cascade(
    config: GatewayConfig,
    secrets: Secrets,
    files: LiveFiles,
    pool: Pool,
    hide: Hide,
) -> Cascade:
    """The policy applied, with the replicas of the settings."""
    students = Students(
        pool,
        config.student_urls,
        max_tokens=config.max_answer_tokens,
        patience=Patience(config.student_patience_ms / 1000),
        api_key=secrets.students,
    )
    return Cascade(
        students,
        router=lambda: files.router,
        holds=lambda: files.held,
        shadow_rates=lambda: files.shadow_rates,
        app=config.app,
        tiers=Tiers(detector_of(config)),
        habits=lambda: files.habits,
        contract_of=files.contract_of,
        hide=hide,
        again_rate=config.frontier_again_rate,
    )


def detector_of(config: GatewayConfig) -> Detector:
    """The one that the settings name, or the shipped one."""
    return load_detector(Path(config.detector_file)) if config.detector_file else shipped()


class Worker(uvicorn.Server):
    """The server of one process; it is not ready from the moment that it is told to end."""

    def __init__(self, config: GatewayConfig, secrets: Secrets, hide: Hide = as_it_is) -> None:
        self._gateway, self._secrets, self._hide = config, secrets, hide
        self.parts: Parts | None = None
        self._routes: Exact | None = None
        super().__init__(
            uvicorn.Config(
                self._app,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=FINISH_S,
            )
        )

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._routes is not None
        await self._routes(scope, receive, send)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is under way and seal the segments."""
        self.parts = await make_parts(self._gateway, self._secrets, self._hide)
        self._routes = Exact(make_app(self.parts))
        try:
            await super().serve(sockets)
        finally:
            await close_parts(self.parts)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Told to end."""
        if self.parts is not None:
            self.parts.draining = True
        super().handle_exit(sig, frame)  # pyright: ignore[reportArgumentType]
        # Else uvicorn raises it again once it has served, before the segments are sealed.
        self._captured_signals.clear()


def main() -> None:
    """Read the document on stdin and serve on the socket whose number is the argument."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Ctrl-C reaches the whole group; the parent passes on what is meant for workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = config_from_text(sys.stdin.read())
    listener = socket.socket(fileno=int(sys.argv[1]))
    worker = Worker(config, secrets_of(os.environ))
    # What was imported stays: no collection has to walk through it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    uvloop.run(worker.serve([listener]))


if __name__ == "__main__":
    main()
