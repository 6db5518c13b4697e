"""The bytes that go to the frontier: the client's own, but for two fields of a few bytes.

Not here: sending them (``forward.py``).
"""

from __future__ import annotations

import json
import re

from loop_pipeline.gateway.formats import chat_completions
from loop_pipeline.gateway.formats.exchange import Request

AUTO = "auto"
# In JSON a quote inside a text is escaped, so this is a field and no text.
_AUTO = re.compile(rb'("model"\s*:\s*)"auto"')


def for_frontier(body: bytes, request: Request, model: str) -> bytes:
    """The client's bytes; ``auto`` becomes a model, and a stream of chat is asked for its usage."""
    if request.model == AUTO and model != AUTO:
        body = _named(body, model)
    if request.stream and request.wire == "chat" and not request.wants_usage:
        body = chat_completions.with_usage(body)
    return body


def _named(body: bytes, model: str) -> bytes:
    name = json.dumps(model).encode()
    if len(_AUTO.findall(body)) == 1:
        return _AUTO.sub(lambda found: found[1] + name, body)
    return json.dumps(json.loads(body) | {"model": model}).encode()


def in_one_piece(body: bytes, request: Request, model: str) -> bytes:
    """The same request, not streamed: for an answer that nobody reads as it comes."""
    if not request.stream:
        return for_frontier(body, request, model)
    asked = json.loads(body)
    asked.pop("stream_options", None)
    return json.dumps(asked | {"stream": False, "model": model}).encode()
