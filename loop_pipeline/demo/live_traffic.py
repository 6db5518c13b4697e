"""Sends requests through the gateway as an application does: with OpenAI's own client.

Not here: which requests, and what is made of the answers (``live_replay.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loop_pipeline.answers.agreement import agrees

SECONDS_BETWEEN_REPORTS = 5.0
# What the gateway says of an answer that it cannot say otherwise.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class LiveRequest:
    """A request, and the answer that the frontier is known to give."""

    messages: list[dict[str, Any]]
    expected: str
    task: str
    contract: dict[str, Any] | None = None
    frontier_usd: float = 0.0


@dataclass(frozen=True)
class LiveAnswer:
    """What came back, and whether it says what the frontier would have said.

    ``arm`` is ``x-loop-route``: student, escalated or frontier; ``frontier_usd`` is what the
    frontier alone would have billed.
    """

    prompt_id: str
    text: str
    agrees: bool
    frontier_usd: float
    arm: str
    reason: str
    streamed: bool
    first_ms: float
    total_ms: float
    overhead_ms: float | None
    error: str | None = None


def send_all(
    url: str,
    key: str,
    requests: Sequence[LiveRequest],
    *,
    concurrency: int = 16,
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> list[LiveAnswer]:
    """Send every request once, every second one streamed.

    Args:
        url: the gateway's ``base_url``.
        key: of the gateway.
        requests: in the order they are sent.
        concurrency: requests in flight.
        seconds: no request is begun after so long; None: all are sent.
        say: where progress goes.

    Raises:
        RuntimeError: OpenAI's client is not installed.
    """
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise RuntimeError(
            "live traffic is sent with OpenAI's client: pip install openai"
        ) from error

    async def run() -> list[LiveAnswer]:
        answers: list[LiveAnswer] = []
        queue = iter(enumerate(requests))
        began = told = time.monotonic()
        async with AsyncOpenAI(base_url=url, api_key=key, max_retries=2, timeout=120) as client:

            async def worker() -> None:
                nonlocal told
                for number, request in queue:
                    if seconds is not None and time.monotonic() - began > seconds:
                        return
                    answers.append(await _send(client, request, streamed=number % 2 == 1))
                    if time.monotonic() - told > SECONDS_BETWEEN_REPORTS:
                        told = time.monotonic()
                        pace = len(answers) / (told - began)
                        say(f"{len(answers)} of {len(requests)} answered, {pace:.0f} a second")

            await asyncio.gather(*(worker() for _ in range(concurrency)))
        return answers

    return asyncio.run(run())


async def _send(client: Any, request: LiveRequest, *, streamed: bool) -> LiveAnswer:
    """One request; an error is part of the answer."""
    from openai import OpenAIError

    start = time.perf_counter()
    headers: Mapping[str, str] = {}
    text, error, first = "", None, None
    asked: dict[str, Any] = {
        "model": "auto",
        "messages": request.messages,
        "extra_headers": {"x-loop-task": request.task},
    }
    try:
        raw = await client.chat.completions.with_raw_response.create(**asked, stream=streamed)
        headers = raw.headers
        if streamed:
            async for chunk in raw.parse():
                first = first or time.perf_counter()
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        else:
            text = raw.parse().choices[0].message.content or ""
    except OpenAIError as failure:
        error = " ".join(str(failure).split())[:200]
    end = time.perf_counter()
    overhead = headers.get("x-loop-overhead-ms")
    return LiveAnswer(
        prompt_id=headers.get("x-loop-prompt-id", ""),
        text=text,
        agrees=agrees(text, request.expected, request.contract),
        frontier_usd=request.frontier_usd,
        arm=headers.get("x-loop-route", UNKNOWN),
        reason=headers.get("x-loop-reason", ""),
        streamed=streamed,
        first_ms=((first or end) - start) * 1000,
        total_ms=(end - start) * 1000,
        overhead_ms=float(overhead) if overhead else None,
        error=error,
    )
