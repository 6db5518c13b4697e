"""What a worker of the gateway is told by its parent, as one document of plain values.

Not here: the settings people write (``gateway_settings.py``), and secrets, which come by the
environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loop_pipeline.settings import LoopSettings

# Addresses that only programs on this machine reach.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Plain values only: a worker reads no settings, so it imports nothing that they need."""

    home: str
    host: str
    port: int
    workers: int
    auth: str
    frontier_urls: tuple[str, ...]
    frontier_model: str
    anthropic_urls: tuple[str, ...]
    frontier_timeout_s: float
    student_urls: tuple[str, ...]
    student_patience_ms: float
    max_answer_tokens: int
    capture: str
    capture_sync_ms: float
    spool_max_bytes: int
    app: str
    detector_file: str | None
    embedder: str = ""
    prices_file: str | None = None
    frontier_again_rate: float = 0.0

    @property
    def folder(self) -> Path:
        """Copies of what the store holds, and the socket of the page."""
        return Path(self.home) / "gateway"

    @property
    def spool(self) -> Path:
        """Traces that wait for the store."""
        return Path(self.home) / "spool"

    @property
    def policies(self) -> Path:
        """What a policy's embedder path is relative to."""
        return Path(self.home) / "artifacts" / "policies"

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can call."""
        return self.host in LOOPBACK

    def text(self) -> str:
        """The document."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """Keys of vendors and the secret of the installation; no part of any text that is printed."""

    frontier: str
    anthropic: str
    students: str
    installation: str
    embedder: str = ""


def config_from_text(text: str) -> GatewayConfig:
    """Read the document."""
    values: dict[str, Any] = json.loads(text)
    lists: dict[str, Any] = {
        name: tuple(value) for name, value in values.items() if isinstance(value, list)
    }
    return GatewayConfig(**values | lists)


def config_from_settings(settings: LoopSettings, **changes: Any) -> GatewayConfig:
    """What of the settings a worker needs.

    Args:
        settings: all of them.
        **changes: fields that a command line gives.
    """
    values = {
        "home": str(settings.home.absolute()),
        "host": settings.gateway_host,
        "port": settings.gateway_port,
        "workers": settings.gateway_workers,
        "auth": settings.gateway_auth,
        "frontier_urls": tuple(settings.frontier_url_list),
        "frontier_model": settings.frontier_model,
        "anthropic_urls": tuple(settings.anthropic_url_list),
        "frontier_timeout_s": settings.frontier_timeout_s,
        "frontier_again_rate": settings.frontier_again_rate,
        "student_urls": tuple(settings.vllm_urls),
        "student_patience_ms": settings.student_patience_ms,
        "max_answer_tokens": settings.max_answer_tokens,
        "capture": settings.capture,
        "capture_sync_ms": settings.capture_sync_ms,
        "spool_max_bytes": settings.spool_max_bytes,
        "app": settings.app,
        "detector_file": str(settings.detector_file) if settings.detector_file else None,
        "embedder": settings.embedder,
        "prices_file": str(settings.prices_file.absolute()) if settings.prices_file else None,
    }
    return GatewayConfig(**values | changes)


# Names under which a worker's environment has the secrets.
FRONTIER_KEY = "LOOP_FRONTIER_API_KEY"
ANTHROPIC_KEY = "LOOP_ANTHROPIC_API_KEY"
STUDENTS_KEY = "VLLM_API_KEY"
INSTALLATION = "LOOP_INSTALLATION_SECRET"
EMBEDDER_KEY = "LOOP_EMBEDDER_API_KEY"


def secret_variables(settings: LoopSettings, installation: bytes) -> dict[str, str]:
    """The secrets as variables of a worker's environment."""
    return {
        FRONTIER_KEY: settings.frontier_api_key.get_secret_value(),
        ANTHROPIC_KEY: settings.anthropic_api_key.get_secret_value(),
        STUDENTS_KEY: os.environ.get(STUDENTS_KEY, ""),
        INSTALLATION: installation.decode(),
        EMBEDDER_KEY: settings.embedder_api_key.get_secret_value(),
    }


def secrets_of(environment: Mapping[str, str]) -> Secrets:
    """The secrets of a worker's environment."""
    return Secrets(
        frontier=environment.get(FRONTIER_KEY, ""),
        anthropic=environment.get(ANTHROPIC_KEY, ""),
        students=environment.get(STUDENTS_KEY, ""),
        installation=environment.get(INSTALLATION, ""),
        embedder=environment.get(EMBEDDER_KEY, ""),
    )
