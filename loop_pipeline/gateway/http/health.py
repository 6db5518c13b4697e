"""``/health/live`` and ``/health/ready``.

Not here: figures (``counters.py``).
"""

from __future__ import annotations

import orjson

from loop_pipeline.gateway.http.asgi import JSON, Receive, Scope, Send, send_whole
from loop_pipeline.gateway.http.parts import Parts


async def send_live(_scope: Scope, _receive: Receive, send: Send) -> None:
    """The process runs and its event loop turns."""
    await send_whole(send, 200, [JSON], b'{"live":true}')


class Ready:
    """ASGI endpoint: ready once the policy was looked for, if the spool can be written.

    A policy that is missing, or an upstream that is down, makes no worker less ready than another.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """200 or 503, with the reasons."""
        parts = self._parts
        against = ["it was told to end"] if parts.draining else []
        if not parts.files.looked:
            against.append("the policy is being read")
        if not parts.capture.writable:
            against.append("traces cannot be written")
        router = parts.files.router
        told = {
            "ready": not against,
            "against": against,
            "policy": router.bundle.sha256 if router else None,
            "policy_problem": parts.files.problem,
            "spool_bytes": parts.capture.backlog,
        }
        await send_whole(send, 503 if against else 200, [JSON], orjson.dumps(told))
