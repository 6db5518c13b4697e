"""The simulated frontier through the OpenAI client: streamed and not, recorded, and failing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import requests
import uvicorn

from loop_pipeline.demo.simulated_frontier import (
    FINGERPRINT,
    UNKNOWN,
    Answers,
    SimulatedFrontier,
    desk,
    recorded,
)
from loop_pipeline_tests.shared import free_port

MESSAGES: list[Any] = [
    {"role": "system", "content": "Summarise the request in a sentence."},
    {"role": "user", "content": "Hello, where is my order 48213? It is urgent."},
]
TRUTH = "Urgent: customer asks where order 48213 is."


@pytest.fixture
def serve() -> Iterator[Callable[[Answers], str]]:
    servers: list[uvicorn.Server] = []

    def start(answers: Answers) -> str:
        port = free_port()
        app = SimulatedFrontier(answers, pace=0).app()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
        threading.Thread(target=server.run, daemon=True).start()
        servers.append(server)
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}"

    yield start
    for server in servers:
        server.should_exit = True


def _client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=10)


def test_an_answer_is_true_priced_and_marked_as_simulated(serve: Callable[[Answers], str]) -> None:
    reply = _client(serve(desk)).chat.completions.create(model="claude-opus-5", messages=MESSAGES)
    assert reply.choices[0].message.content == TRUTH
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "simulated/claude-opus-5"
    assert reply.system_fingerprint == FINGERPRINT
    assert reply.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 2


def test_streamed_it_is_the_same_answer_in_pieces(serve: Callable[[Answers], str]) -> None:
    chunks = list(
        _client(serve(desk)).chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len([piece for piece in pieces if piece]) > 3
    assert "".join(pieces) == TRUTH
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage
    assert {c.system_fingerprint for c in chunks} == {FINGERPRINT}


def test_recorded_answers_are_given_to_the_same_messages(
    serve: Callable[[Answers], str],
    trace: Callable[..., dict[str, Any]],
    jsonl: Callable[..., Path],
) -> None:
    line = trace(4, model="gold labels of a set")
    client = _client(serve(recorded(jsonl(line))))
    reply = client.chat.completions.create(model="m", messages=line["messages"])
    assert (reply.choices[0].message.content, reply.model) == ("delivery", "gold labels of a set")
    reply = client.chat.completions.create(model="m", messages=MESSAGES)
    assert reply.choices[0].message.content == UNKNOWN


def test_failures_come_as_often_as_they_were_asked_for(serve: Callable[[Answers], str]) -> None:
    url = serve(desk)
    client = _client(url)
    ask = {"model": "m", "messages": MESSAGES}
    for status, error in ((429, openai.RateLimitError), (500, openai.InternalServerError)):
        requests.post(f"{url}/simulate", json={"fault": status, "times": 2}, timeout=10)
        for _ in range(2):
            with pytest.raises(error):
                client.chat.completions.create(**ask)
        assert client.chat.completions.create(**ask).choices[0].message.content == TRUTH
    requests.post(f"{url}/simulate", json={"fault": "hang"}, timeout=10)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(**ask)
    requests.post(f"{url}/simulate", json={"fault": "reset"}, timeout=10)
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**ask)


def test_a_cut_stream_ends_early_and_cleanly(serve: Callable[[Answers], str]) -> None:
    url = serve(desk)
    requests.post(f"{url}/simulate", json={"fault": "cut"}, timeout=10)
    stream = _client(url).chat.completions.create(model="m", messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "m"}', b'{"messages": 7}'])
def test_nonsense_is_refused_in_the_shape_of_openai(
    serve: Callable[[Answers], str], body: bytes
) -> None:
    url = serve(desk)
    reply = requests.post(f"{url}/v1/chat/completions", data=body, timeout=10)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert requests.get(f"{url}/v1/embeddings", timeout=10).status_code == 404
    assert requests.get(f"{url}/health", timeout=10).status_code == 200
    assert len(requests.get(f"{url}/v1/models", timeout=10).json()["data"]) == 1
