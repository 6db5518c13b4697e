"""A canned OpenAI-compatible upstream for the gateway's benchmarks: plain ASGI, no framework.

    PORT=9001 python -m benchmarks.gateway_upstream

It answers as a frontier (462 bytes, or a stream of 40 chunks) and, where log-probabilities are
asked for, as a vLLM server that holds the adapters that `ADAPTERS` names. `DELAY_MS` waits before
each answer. `/slots` tells how many requests it is working on.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import uvicorn

DELAY_S = float(os.environ.get("DELAY_MS", "0")) / 1000
ADAPTERS = [name for name in os.environ.get("ADAPTERS", "").split(",") if name]
TEXT = "This is a canned answer from the stub upstream. " * 4
USAGE = {"prompt_tokens": 12, "completion_tokens": 48, "total_tokens": 60}
ID = {"id": "chatcmpl-stub", "created": 1_700_000_000, "model": "stub"}
CHUNKS = 40


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return (
        b"data: " + _json(ID | {"object": "chat.completion.chunk", "choices": [choice]}) + b"\n\n"
    )


def _answer(text: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | more
    return _json(ID | {"object": "chat.completion", "choices": [choice], "usage": USAGE})


ANSWER = _answer(TEXT)
# As sure as an answer can be: what is measured is the way to it.
SURE = {"content": [{"token": "refund", "logprob": -0.0001, "bytes": None, "top_logprobs": []}]}
STUDENT = _answer("refund", logprobs=SURE)
STREAM = [
    _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": f"word {i} "}) for i in range(CHUNKS - 2)),
    _chunk({}, "stop"),
]
STREAM_USAGE = b"data: " + _json(ID | {"choices": [], "usage": USAGE}) + b"\n\n"
CARDS = [{"id": "base", "object": "model", "parent": None, "root": "stub"}]
CARDS += [{"id": n, "object": "model", "parent": "base", "root": n} for n in ADAPTERS]
MODELS = _json({"object": "list", "data": CARDS})

at_work = 0


async def _body(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(send: Any, body: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Any, usage: bool) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for event in [*STREAM, *([STREAM_USAGE] if usage else []), b"data: [DONE]\n\n"]:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _wait(receive: Any) -> bool:
    """Whether the client is still there after the delay."""
    gone = asyncio.ensure_future(receive())
    done, _ = await asyncio.wait({gone}, timeout=DELAY_S)
    gone.cancel()
    return not done


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request."""
    global at_work
    body = await _body(receive)
    known = {"/health": b"{}", "/slots": _json({"at_work": at_work})}
    found = MODELS if scope["path"].endswith("/models") else known.get(scope["path"])
    if found is not None:
        await _send(send, found)
        return
    at_work += 1
    try:
        if not DELAY_S or await _wait(receive):
            await _chat(body.replace(b" ", b""), send)
    finally:
        at_work -= 1


async def _chat(body: bytes, send: Any) -> None:
    if b'"logprobs":true' in body:
        await _send(send, STUDENT)
    elif b'"stream":true' in body:
        await _stream(send, b"include_usage" in body)
    else:
        await _send(send, ANSWER)


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=False,
        log_level="warning",
        lifespan="off",
        timeout_keep_alive=120,
    )
