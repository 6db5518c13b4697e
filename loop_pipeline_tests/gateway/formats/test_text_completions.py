"""Text completions are captured as one message and never a student's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats import text_completions as completions
from loop_pipeline.gateway.formats.exchange import BadRequest, Reply
from loop_pipeline.gateway.formats.sse import DONE, event_of
from loop_pipeline_tests.gateway.formats.wire_samples import raw, read_through, spoiled

FULL: dict[str, Any] = {
    "model": "davinci",
    "prompt": "Once",
    "stream": True,
    "max_tokens": 5,
    "stop": ["."],
    "user": "u1",
    "n": 1,
}
USAGE = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
VENDORS: dict[str, Any] = {
    "id": "cmpl-9",
    "object": "text_completion",
    "model": "davinci-2",
    "choices": [{"index": 0, "text": " upon a time", "finish_reason": "length", "logprobs": None}],
    "usage": USAGE,
}
WHOLE = Reply(
    text=" upon a time",
    finish_reason="length",
    model="davinci-2",
    response_id="cmpl-9",
    tokens_in=1,
    tokens_out=3,
)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Once", "Once"),
        (["Once", "Twice"], "Once\nTwice"),
        ([1, 2], "[1,2]"),
        ([[1], [2]], "[[1],[2]]"),
        ([], ""),
        (None, ""),
    ],
)
def test_the_prompt_is_one_message_of_the_user(prompt: Any, text: str):
    request = completions.read_request(raw(FULL | {"prompt": prompt}))
    assert request.messages == [{"role": "user", "content": text}]
    assert request.frontier_only == "prompt"
    assert (request.max_tokens, request.stop, request.user) == (5, (".",), "u1")


def test_an_answer_is_read_whole_and_streamed_under_its_own_id():
    assert completions.read_reply(raw(VENDORS)) == WHOLE
    head = {"id": "cmpl-9", "model": "davinci-2"}
    pieces = [
        {"choices": [{"index": 0, "text": " upon", "finish_reason": None}]},
        {"choices": [{"index": 0, "text": " a time", "finish_reason": "length"}]},
    ]
    stream = b"".join(event_of(head | piece) for piece in pieces)
    usage = event_of(head | {"choices": [], "usage": USAGE})
    seen = completions.StreamReader(completions.read_request(raw(FULL)), "p1")
    assert read_through(seen, stream + usage + DONE) == stream + DONE
    assert seen.ended
    assert seen.reply() == WHOLE


def test_a_model_is_needed():
    with pytest.raises(BadRequest, match="model"):
        completions.read_request(b'{"prompt":"x"}')


@given(spoiled(FULL), spoiled(VENDORS), st.booleans())
def test_nothing_makes_reading_fail(request: Any, answer: Any, streamed: bool):
    seen = completions.StreamReader(completions.read_request(raw(FULL)), "p1")
    seen.take(b"data: " + raw(answer) + b"\n\n")
    orjson.dumps([completions.read_reply(raw(answer)), seen.reply()])
    try:
        orjson.dumps(completions.read_request(raw(request)))
    except BadRequest:
        return
