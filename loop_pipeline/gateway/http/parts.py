"""What a worker is made of, and the wire formats by name.

Not here: making it (``worker.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import aiohttp

from loop_pipeline.costs.prices import Prices
from loop_pipeline.gateway.access.access import Access
from loop_pipeline.gateway.access.live_files import LiveFiles
from loop_pipeline.gateway.asking.hidden_values import Hide
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
from loop_pipeline.gateway.http.asgi import Headers
from loop_pipeline.gateway.upstream.pool import Pool

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
    students: Pool
    page: aiohttp.ClientSession
    hide: Hide
    """Takes personal data out of a text that is kept, or that a student is asked."""
    prices: Prices
    draining: bool = False

    def urls(self, *, anthropic: bool) -> tuple[str, ...]:
        """Where the frontier of a format is."""
        return self.config.anthropic_urls if anthropic else self.config.frontier_urls

    def vendor_key(self, *, anthropic: bool) -> Headers:
        """The header that our key of this vendor goes in, none without a key."""
        ours = self.secrets.anthropic if anthropic else self.secrets.frontier
        if not ours:
            return []
        named = (b"x-api-key", ours) if anthropic else (b"authorization", f"Bearer {ours}")
        return [(named[0], named[1].encode())]
