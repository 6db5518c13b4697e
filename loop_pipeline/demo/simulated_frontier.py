"""A frontier that costs nothing: an OpenAI-compatible server with known answers.

Not here: what it answers (``desk_answers.py`` of the simulated desk; a table of a public set).

Run: ``python -m loop_pipeline.demo.simulated_frontier --port 8190``. Everything it says carries the
system fingerprint ``simulated-frontier``; what the simulated desk answers also a model whose name
begins with ``simulated/``. Times to the first byte and between words are those of the simulation.

``POST /simulate`` with ``{"fault": …, "times": 3}`` makes the next answers fail: a status such as
429 or 500, ``hang`` (it never answers), ``cut`` (a stream ends early but cleanly), ``reset`` (the
connection breaks in the middle).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loop_pipeline.demo.desk_answers import desk_answer
from loop_pipeline.demo.simulated_traffic import MODEL
from loop_pipeline.gateway.trace_row import SIMULATED

FINGERPRINT = "simulated-frontier"
# Of the simulation: milliseconds before an answer and for each of its tokens, and their spread.
FIRST_MS, TOKEN_MS, SPREAD = 450, 14, 0.35
HANG_S = 3600.0
UNKNOWN = "No answer to this request was recorded."

Messages = Sequence[Mapping[str, Any]]
# Makes the text and the model's name of an answer from the messages and the asked model.
Answers = Callable[[Messages, str], tuple[str, str]]


@dataclass
class Faults:
    """What the next requests meet instead of an answer."""

    fault: int | str | None = None
    times: int = 0

    def take(self) -> int | str | None:
        """The fault of this request, if any."""
        if self.times <= 0:
            return None
        self.times -= 1
        return self.fault


@dataclass
class SimulatedFrontier:
    """Answers chat completions.

    Args:
        answers: what it says.
        pace: how slowly it says it; 1 as in the simulation, 0 at once.
    """

    answers: Answers
    pace: float = 1.0
    faults: Faults = field(default_factory=Faults)
    _rng: random.Random = field(default_factory=random.Random)

    def app(self) -> Starlette:
        """The server's routes."""
        return Starlette(
            routes=[
                Route("/health", _health),
                Route("/simulate", self.simulate, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/{path:path}", _unknown, methods=["GET", "POST", "PUT", "DELETE"]),
            ]
        )

    async def models(self, _: Request) -> Response:
        """The one model there is."""
        card = {"id": MODEL, "object": "model", "created": 0, "owned_by": FINGERPRINT}
        return JSONResponse({"object": "list", "data": [card]})

    async def simulate(self, request: Request) -> Response:
        """Let the next requests fail."""
        asked = await request.json()
        self.faults = Faults(asked["fault"], int(asked.get("times", 1)))
        return JSONResponse(vars(self.faults))

    async def chat(self, request: Request) -> Response:
        """One chat completion, streamed or not."""
        try:
            body = orjson.loads(await request.body())
            messages, streamed = list(body["messages"]), bool(body.get("stream"))
            text, model = self.answers(messages, str(body.get("model") or MODEL))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"no chat request: {error!r}", "invalid_request_error")
        fault = self.faults.take()
        if isinstance(fault, int):
            return _error(fault, f"this failure ({fault}) was asked for", "simulated")
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        slow = self.pace * self._rng.lognormvariate(0, SPREAD) / 1000
        tokens = _tokens(text)
        reply = _Reply(model, _usage(messages, tokens))
        await asyncio.sleep(FIRST_MS * slow)
        if streamed:
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            chunks = reply.stream(text, TOKEN_MS * slow, usage=usage, fault=fault)
            return StreamingResponse(chunks, media_type="text/event-stream")
        await asyncio.sleep(tokens * TOKEN_MS * slow)
        if fault in ("cut", "reset"):
            return StreamingResponse(_broken(reply.whole(text)), media_type="application/json")
        return Response(reply.whole(text), media_type="application/json")


@dataclass
class _Reply:
    """One answer's frame: id, time, model and usage."""

    model: str
    usage: dict[str, Any]
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str) -> bytes:
        """The answer in one piece."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return self._frame("chat.completion", choices=[choice], usage=self.usage)

    async def stream(
        self, text: str, pause: float, *, usage: bool, fault: int | str | None
    ) -> AsyncIterator[bytes]:
        """The answer as events, a word each."""
        words = [w + " " for w in text.split(" ")]
        words[-1] = words[-1][:-1]
        yield self._event({"role": "assistant", "content": ""})
        for number, word in enumerate(words):
            if fault in ("cut", "reset") and number >= len(words) // 2:
                if fault == "reset":
                    raise ConnectionResetError("this failure was asked for")
                return
            await asyncio.sleep(pause * _tokens(word))
            yield self._event({"content": word})
        yield self._event({}, finish="stop")
        if usage:
            yield _data(self._frame("chat.completion.chunk", choices=[], usage=self.usage))
        yield b"data: [DONE]\n\n"

    def _event(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data(self._frame("chat.completion.chunk", choices=[choice]))

    def _frame(self, kind: str, **more: Any) -> bytes:
        frame = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return orjson.dumps(frame | {"system_fingerprint": FINGERPRINT} | more)


def desk(messages: Messages, model: str) -> tuple[str, str]:
    """The simulated support desk's answers."""
    return desk_answer(messages), SIMULATED + model.removeprefix(SIMULATED)


def recorded(traffic: Path) -> Answers:
    """The answers of a file in the import format: to the same messages the same answer."""
    known: dict[str, tuple[str, str]] = {}
    with traffic.open(encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if "messages" in line:
                known[_key(line["messages"])] = (line["output"], line.get("model") or MODEL)

    def answers(messages: Messages, model: str) -> tuple[str, str]:
        return known.get(_key(messages), (UNKNOWN, SIMULATED + model))

    return answers


def _key(messages: Messages) -> str:
    return json.dumps([[m["role"], m["content"]] for m in messages])


def _usage(messages: Messages, tokens_out: int) -> dict[str, Any]:
    # Four characters a token, and what a chat template adds.
    tokens_in = sum(len(str(m.get("content") or "")) for m in messages) // 4 + 8
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _tokens(text: str) -> int:
    return len(text) // 4 + 1


def _data(document: bytes) -> bytes:
    return b"data: " + document + b"\n\n"


async def _broken(document: bytes) -> AsyncIterator[bytes]:
    yield document[: len(document) // 2]
    raise ConnectionResetError("this failure was asked for")


def _error(status: int, message: str, kind: str) -> Response:
    error = {"message": message, "type": kind, "param": None, "code": None}
    headers = {"retry-after": "1"} if status in (429, 503) else None
    return JSONResponse({"error": error}, status, headers)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _unknown(request: Request) -> Response:
    words = f"the simulated frontier has no {request.method} {request.url.path}"
    return _error(404, words, "invalid_request_error")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A simulated frontier: its answers cost nothing.")
    parser.add_argument("--port", type=int, default=8190)
    parser.add_argument("--recorded", type=Path, help="answer from this file of traffic")
    parser.add_argument("--pace", type=float, default=1.0, help="1 as in the simulation, 0 at once")
    given = parser.parse_args()
    answers = recorded(given.recorded) if given.recorded else desk
    app = SimulatedFrontier(answers, given.pace).app()
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
