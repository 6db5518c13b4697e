"""What a worker is made of, and the wire formats by name.

Not here: making it (``worker.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import aiohttp

from loop_pipeline.costs.prices import Prices
from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.live_files import LiveFiles
from loop_pipeline.gateway.capture import Capture
from loop_pipeline.gateway.cascade import Cascade
from loop_pipeline.gateway.config import GatewayConfig, Secrets
from loop_pipeline.gateway.formats import (
    anthropic_messages,
    chat_completions,
    openai_responses,
    text_completions,
)
from loop_pipeline.gateway.formats.exchange import Wire
from loop_pipeline.gateway.frontier.forward import Frontier

FORMATS: dict[Wire, ModuleType] = {
    "chat": chat_completions,
    "messages": anthropic_messages,
    "responses": openai_responses,
    "completions": text_completions,
}


@dataclass(slots=True)
class Parts:
    """One of each for a worker; ``draining`` once it was told to end."""

    config: GatewayConfig
    secrets: Secrets
    access: Access
    files: LiveFiles
    capture: Capture
    cascade: Cascade
    frontier: Frontier
    students: aiohttp.ClientSession
    page: aiohttp.ClientSession
    hide: Callable[[str], str]
    """Takes personal data out of a text that is kept, or that a student is asked."""
    prices: Prices
    draining: bool = False

    def urls(self, *, anthropic: bool) -> tuple[str, ...]:
        """Where the frontier of a format is."""
        return self.config.anthropic_urls if anthropic else self.config.frontier_urls

    def vendor_key(self, *, anthropic: bool) -> list[tuple[str, str]]:
        """The header that our key of this vendor goes in, none without a key."""
        if anthropic:
            return [("x-api-key", self.secrets.anthropic)] if self.secrets.anthropic else []
        if not self.secrets.frontier:
            return []
        return [("authorization", f"Bearer {self.secrets.frontier}")]
