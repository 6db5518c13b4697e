"""Messages are read whole and streamed, and written so that Anthropic's own client accepts them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats import anthropic_messages as messages
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.formats.sse import Events, event_of
from loop_pipeline_tests.gateway.formats.wire_samples import (
    ANSWER,
    BY,
    SAID,
    raw,
    read_through,
    spoiled,
    transport,
)

if TYPE_CHECKING:
    import anthropic  # takes seconds: each worker would pay for it, and one runs this file

SAYS: Any = [{"role": "user", "content": "Hi"}]
REQUEST = messages.read_request(raw({"model": "auto", "max_tokens": 9, "messages": SAYS}))
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 20,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 4},
}
VENDORS: dict[str, Any] = {
    "id": "msg_9",
    "type": "message",
    "role": "assistant",
    "model": "claude-9",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I will."},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
WHOLE = Reply(
    text="I will.",
    tool_calls=[
        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    ],
    finish_reason="tool_calls",
    model="claude-9",
    response_id="msg_9",
    tokens_in=35,
    tokens_cached=20,
    tokens_cache_write=5,
    tokens_out=9,
    tokens_reasoning=4,
)
START = {"content": [], "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}


def piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def block(index: int, **begin: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": begin}


SAID_IN_PIECES: list[dict[str, Any]] = [
    {"type": "message_start", "message": VENDORS | START},
    block(0, type="thinking", thinking="", signature=""),
    piece(0, type="thinking_delta", thinking="hm"),
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    block(1, type="text", text=""),
    piece(1, type="text_delta", text="I w"),
    piece(1, type="text_delta", text="ill."),
    {"type": "content_block_stop", "index": 1},
    block(2, type="tool_use", id="t1", name="f", input={}),
    piece(2, type="input_json_delta", partial_json=""),
    piece(2, type="input_json_delta", partial_json='{"x"'),
    piece(2, type="input_json_delta", partial_json=":1}"),
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {
            "output_tokens": 9,
            "input_tokens": None,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    },
    {"type": "message_stop"},
]
STREAM = b"".join(event_of(said, said["type"]) for said in SAID_IN_PIECES)


def reader() -> messages.StreamReader:
    return messages.StreamReader(REQUEST, "p1")


def client(body: bytes, kind: str = "application/json", status: int = 200) -> anthropic.Anthropic:
    import anthropic

    http = anthropic.DefaultHttpxClient(transport=transport(body, kind, status))
    return anthropic.Anthropic(api_key="x", base_url="http://x", http_client=http, max_retries=0)


def asked(answers: anthropic.Anthropic, **more: Any) -> Any:
    return answers.messages.create(model="auto", max_tokens=9, messages=SAYS, **more)


def test_an_answer_is_read_with_all_that_it_took():
    assert messages.read_reply(raw(VENDORS)) == WHOLE


def test_a_stream_passes_unchanged_and_gives_the_same_answer():
    for stream in (STREAM, STREAM.replace(b"\n", b"\r\n")):
        seen = reader()
        assert read_through(seen, stream) == stream
        assert seen.ended
        assert seen.reply() == WHOLE


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_cut_gives_the_same(cuts: list[int]):
    seen, cutter = reader(), Events()
    marks = sorted({0, len(STREAM), *cuts})
    for begin, end in itertools.pairwise(marks):
        for event in cutter.feed(STREAM[begin:end]):
            seen.take(event)
    assert seen.reply() == WHOLE


def test_anthropics_accumulator_puts_the_same_answer_together():
    with client(STREAM, "text/event-stream").messages.stream(
        model="auto", max_tokens=9, messages=SAYS
    ) as theirs:
        final = theirs.get_final_message()
    assert messages.read_reply(final.to_json().encode()) == WHOLE


@pytest.mark.parametrize(
    ("theirs", "ours", "refusal"),
    [
        ("end_turn", "stop", False),
        ("stop_sequence", "stop", False),
        ("max_tokens", "length", False),
        ("refusal", "content_filter", True),
        ("pause_turn", "pause_turn", False),
        (None, None, False),
    ],
)
def test_reasons_to_end_are_told_in_chats_words(theirs: Any, ours: Any, refusal: bool):
    reply = messages.read_reply(raw(VENDORS | {"stop_reason": theirs}))
    assert (reply.finish_reason, reply.refusal) == (ours, refusal)


@pytest.mark.parametrize("kept", range(len(SAID_IN_PIECES)))
def test_a_stream_that_stops_early_is_broken(kept: int):
    seen = reader()
    for said in SAID_IN_PIECES[:kept]:
        seen.take(event_of(said, said["type"]))
    assert not seen.ended
    assert seen.reply().finish_reason == "broken"


def test_the_vendors_own_error_ends_the_stream_and_teaches_nothing():
    seen = reader()
    seen.take(event_of(SAID_IN_PIECES[0], "message_start"))
    error = event_of({"type": "error", "error": {"type": "overloaded_error"}}, "error")
    assert seen.take(error) == error
    assert seen.ended
    assert seen.reply().finish_reason == "broken"


def test_an_event_that_cannot_be_read_is_passed_on_and_the_answer_teaches_nothing():
    seen = reader()
    torn = b'event: content_block_delta\ndata: {"type":"content\n\n'
    assert seen.take(torn) == torn
    read_through(seen, STREAM)
    assert seen.reply().finish_reason == "broken"


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b'{"type":"error","error":{}}'])
def test_what_is_no_answer_is_broken(body: bytes):
    assert messages.read_reply(body).finish_reason == "broken"


@given(spoiled(VENDORS))
def test_no_answer_makes_reading_fail(body: Any):
    reply = messages.read_reply(raw(body))
    assert isinstance(reply, Reply)
    assert orjson.dumps(reply)


@given(st.lists(st.one_of([spoiled(said) for said in SAID_IN_PIECES]), max_size=6))
def test_no_event_makes_reading_fail(values: list[Any]):
    seen = reader()
    for value in values:
        seen.take(b"data: " + raw(value) + b"\n\n")
    reply = seen.reply()
    assert isinstance(reply, Reply)
    assert orjson.dumps(reply)


def test_anthropics_client_reads_a_students_answer():
    body = messages.write_reply(REQUEST, ANSWER, **BY)
    answer = asked(client(body))
    assert (answer.id, answer.model, answer.role) == ("msg_p1", "auto", "assistant")
    assert [part.text for part in answer.content] == [SAID]
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (7, 4)
    reply = messages.read_reply(body)
    assert (reply.text, reply.tokens_in, reply.tokens_cached, reply.tokens_out) == (SAID, 11, 4, 7)


def test_anthropics_client_reads_a_students_stream():
    stream = messages.write_stream(REQUEST, ANSWER, **BY)
    with client(stream, "text/event-stream").messages.stream(
        model="auto", max_tokens=9, messages=SAYS
    ) as theirs:
        assert "".join(theirs.text_stream) == SAID
        final = theirs.get_final_message()
    assert final.id == "msg_p1"
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 7
    seen = reader()
    assert read_through(seen, stream) == stream
    assert (seen.reply().text, seen.reply().finish_reason) == (SAID, "stop")
    assert seen.ended


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "authentication_error"),
        (413, "APIStatusError", "request_too_large"),
        (429, "RateLimitError", "rate_limit_error"),
        (502, "InternalServerError", "api_error"),
    ],
)
def test_anthropics_client_raises_our_errors_as_its_own(status: int, error: str, kind: str):
    import anthropic

    with pytest.raises(getattr(anthropic, error)) as caught:
        asked(client(messages.error_body(status, "It went wrong.", "loop_wrong"), status=status))
    raised: Any = caught.value
    assert raised.body["error"]["code"] == "loop_wrong"
    assert raised.body["error"]["type"] == kind
    assert "It went wrong." in str(raised)


def test_anthropics_client_raises_the_event_that_ends_a_broken_stream():
    broken = STREAM[: len(STREAM) // 2].rpartition(b"\n\n")[0] + b"\n\n"
    broken += messages.error_event(502, "It broke.", "loop_broken")
    import anthropic

    with pytest.raises(anthropic.APIStatusError, match="It broke"):
        list(asked(client(broken, "text/event-stream"), stream=True))
