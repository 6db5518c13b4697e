"""Responses are read from their last event, and written as OpenAI's own client accepts them."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats import openai_responses as responses
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.formats.sse import event_of
from loop_pipeline_tests.gateway.formats.test_chat_answers import client
from loop_pipeline_tests.gateway.formats.wire_samples import (
    ANSWER,
    BY,
    SAID,
    raw,
    read_through,
    spoiled,
)

ASKED: dict[str, Any] = {
    "model": "auto",
    "input": "Hi",
    "store": False,
    "temperature": 0.5,
    "metadata": {"team": "a"},
}
REQUEST = responses.read_request(raw(ASKED))
VENDORS: dict[str, Any] = {
    "id": "resp_9",
    "object": "response",
    "model": "gpt-5.5-2026",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "I ", "annotations": []},
                {"type": "output_text", "text": "will.", "annotations": []},
            ],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{ }"},
    ],
    "usage": {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 16},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 29,
    },
}
WHOLE = Reply(
    text="I will.",
    tool_calls=[{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{ }"}}],
    finish_reason="tool_calls",
    model="gpt-5.5-2026",
    response_id="resp_9",
    tokens_in=20,
    tokens_cached=16,
    tokens_out=9,
    tokens_reasoning=5,
)
BEGUN = VENDORS | {"status": "in_progress", "output": [], "usage": None}
SAID_IN_PIECES: list[dict[str, Any]] = [
    {"type": "response.created", "response": BEGUN, "sequence_number": 0},
    {"type": "response.output_text.delta", "delta": "I ", "sequence_number": 1},
    {"type": "response.output_text.delta", "delta": "will.", "sequence_number": 2},
    {"type": "response.completed", "response": VENDORS, "sequence_number": 3},
]
STREAM = b"".join(event_of(said, said["type"]) for said in SAID_IN_PIECES)


def reader() -> responses.StreamReader:
    return responses.StreamReader(REQUEST, "p1")


def asked(answers: openai.OpenAI, **more: Any) -> Any:
    return answers.responses.create(model="auto", input="Hi", store=False, **more)


def test_an_answer_is_read_with_all_that_it_took():
    assert responses.read_reply(raw(VENDORS)) == WHOLE


def test_a_stream_passes_unchanged_and_gives_the_same_answer():
    for stream in (STREAM, STREAM.replace(b"\n", b"\r\n")):
        seen = reader()
        assert read_through(seen, stream) == stream
        assert seen.ended
        assert seen.reply() == WHOLE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
        ({"status": "failed", "error": {"code": "server_error"}}, "broken"),
        ({"status": "cancelled"}, "cancelled"),
        ({"status": "queued"}, "broken"),
        ({"status": "completed"}, "tool_calls"),
        ({"status": "completed", "output": VENDORS["output"][:2]}, "stop"),
    ],
)
def test_how_it_ended_is_told_in_chats_words(changes: dict[str, Any], reason: str):
    assert responses.read_reply(raw(VENDORS | changes)).finish_reason == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [("completed", "tool_calls"), ("incomplete", "length"), ("failed", "broken")],
)
def test_each_of_the_three_ends_is_an_end(status: str, reason: str):
    seen = reader()
    end = {"type": f"response.{status}", "response": VENDORS | {"status": status}}
    read_through(seen, event_of(SAID_IN_PIECES[0]) + event_of(end))
    assert seen.ended
    assert seen.reply().finish_reason == reason
    assert seen.reply().tokens_out == 9


def test_a_stream_that_stops_early_is_broken_and_its_text_so_far_known():
    seen = reader()
    read_through(seen, b"".join(event_of(said) for said in SAID_IN_PIECES[:2]))
    assert not seen.ended
    assert seen.reply() == Reply(
        text="I ", finish_reason="broken", model="gpt-5.5-2026", response_id="resp_9"
    )


def test_an_event_that_cannot_be_read_is_passed_on_and_the_last_one_counts():
    seen = reader()
    torn = b'data: {"type":"response.output_text.delta\n\n'
    assert seen.take(torn) == torn
    read_through(seen, STREAM)
    assert seen.reply() == WHOLE


def test_the_vendors_own_error_ends_the_stream_and_teaches_nothing():
    seen = reader()
    error = event_of({"type": "error", "code": "x", "message": "y"}, "error")
    assert seen.take(error) == error
    assert seen.ended
    assert seen.reply().finish_reason == "broken"


def test_a_refusal_is_marked():
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    reply = responses.read_reply(raw(VENDORS | {"output": [refusal]}))
    assert (reply.text, reply.refusal, reply.finish_reason) == ("I cannot.", True, "stop")


@given(spoiled(VENDORS))
def test_no_answer_makes_reading_fail(body: Any):
    reply = responses.read_reply(raw(body))
    assert isinstance(reply, Reply)
    assert orjson.dumps(reply)


@given(st.lists(st.one_of([spoiled(said) for said in SAID_IN_PIECES]), max_size=5))
def test_no_event_makes_reading_fail(values: list[Any]):
    seen = reader()
    for value in values:
        seen.take(b"data: " + raw(value) + b"\n\n")
    reply = seen.reply()
    assert isinstance(reply, Reply)
    assert orjson.dumps(reply)


@given(spoiled(ASKED | {"text": {"verbosity": "low"}, "reasoning": {"effort": "low"}}))
def test_whatever_a_student_may_be_asked_its_answer_can_be_written(body: Any):
    try:
        request = responses.read_request(raw(body))
    except responses.BadRequest:
        return
    if request.frontier_only is None:
        answer = orjson.loads(responses.write_reply(request, ANSWER, **BY))
        assert answer["output"][0]["content"][0]["text"] == SAID


def test_openais_client_reads_a_students_answer():
    body = responses.write_reply(REQUEST, ANSWER, **BY)
    answer = asked(client(body))
    assert (answer.id, answer.model, answer.status) == ("resp_p1", "auto", "completed")
    assert answer.output_text == SAID
    assert (answer.temperature, answer.metadata, answer.store) == (0.5, {"team": "a"}, False)
    assert answer.usage.total_tokens == 18
    reply = responses.read_reply(body)
    assert (reply.text, reply.finish_reason, reply.tokens_cached) == (SAID, "stop", 4)


def test_openais_client_reads_a_students_stream():
    stream = responses.write_stream(REQUEST, ANSWER, **BY)
    events = list(asked(client(stream, "text/event-stream"), stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [e.delta for e in events if e.type == "response.output_text.delta"] == [SAID]
    with client(stream, "text/event-stream").responses.stream(model="auto", input="Hi") as theirs:
        final = theirs.get_final_response()
    assert (final.id, final.output_text) == ("resp_p1", SAID)
    seen = reader()
    assert read_through(seen, stream) == stream
    assert seen.reply() == responses.read_reply(responses.write_reply(REQUEST, ANSWER, **BY))


def test_openais_client_raises_our_errors_as_its_own():
    with pytest.raises(openai.BadRequestError) as caught:
        asked(client(responses.error_body(400, "No.", "loop_wrong", "input"), status=400))
    assert (caught.value.code, caught.value.param) == ("loop_wrong", "input")


def test_openais_client_raises_the_event_that_ends_a_broken_stream():
    begun = responses.write_stream(REQUEST, ANSWER, **BY).split(b"\n\n")[0] + b"\n\n"
    broken = begun + responses.error_event(502, "It broke.", "loop_broken")
    with pytest.raises(openai.APIError, match="It broke"):
        list(asked(client(broken, "text/event-stream"), stream=True))
