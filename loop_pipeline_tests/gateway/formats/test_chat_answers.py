"""Answers are read as they are, renamed without touching another byte, and written so that
OpenAI's own client accepts them."""

from __future__ import annotations

import json
from typing import Any

import openai
import orjson
import pytest
from hypothesis import given

from loop_pipeline.gateway.formats import chat_completions as chat
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline_tests.gateway.formats.wire_samples import (
    ANSWER,
    BY,
    SAID,
    raw,
    spoiled,
    transport,
)

REQUEST = chat.read_request(
    raw({"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "stream": True})
)
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"id":"chatcmpl-9"'},
}
VENDORS: dict[str, Any] = {
    "id": "chatcmpl-9",
    "object": "chat.completion",
    "model": "gpt-5.5-2026",
    "choices": [
        {"index": 1, "message": {"content": "second"}, "finish_reason": "length"},
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'Say "id":"chatcmpl-9"', "refusal": None},
            "finish_reason": "stop",
        },
    ],
    "usage": {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}


def client(body: bytes, kind: str = "application/json", status: int = 200) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(transport=transport(body, kind, status))
    return openai.OpenAI(api_key="x", base_url="http://x/v1", http_client=http, max_retries=0)


def asked(answers: openai.OpenAI, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": "Hi"}]
    return answers.chat.completions.create(model="auto", messages=messages, **more)


def test_an_answer_is_read_with_all_that_it_took():
    assert chat.read_reply(raw(VENDORS)) == Reply(
        text='Say "id":"chatcmpl-9"',
        finish_reason="stop",
        model="gpt-5.5-2026",
        response_id="chatcmpl-9",
        tokens_in=20,
        tokens_cached=16,
        tokens_out=9,
        tokens_reasoning=5,
    )


def reply_of(message: Any, reason: Any = "stop") -> Reply:
    return chat.read_reply(raw({"choices": [{"message": message, "finish_reason": reason}]}))


def test_tool_calls_keep_their_arguments_as_the_model_wrote_them():
    reply = reply_of({"content": None, "tool_calls": [CALL]}, "tool_calls")
    assert (reply.text, reply.tool_calls, reply.finish_reason) == ("", [CALL], "tool_calls")
    old = reply_of({"function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert old.tool_calls == [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert old.finish_reason == "tool_calls"


def test_an_answer_that_ended_in_an_error_teaches_nothing():
    assert reply_of({"content": "x"}, "error").finish_reason == "broken"
    assert reply_of({"content": "x"}, "abort").finish_reason == "broken"
    body = VENDORS | {"error": {"message": "x"}}
    assert chat.read_reply(raw(body)).finish_reason == "broken"


def test_a_refusal_is_marked():
    reply = reply_of({"content": None, "refusal": "I cannot."})
    assert (reply.text, reply.refusal) == ("I cannot.", True)


def test_reasoning_is_no_part_of_the_text():
    parts = [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Yes"}]
    assert reply_of({"content": parts, "reasoning_content": "hm"}).text == "Yes"


def test_more_cached_tokens_than_tokens_cannot_be():
    usage = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 9}}
    reply = chat.read_reply(raw({"choices": [{}], "usage": usage}))
    assert (reply.tokens_in, reply.tokens_cached) == (3, 3)


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b'{"error":{"message":"x"}}', b'{"choices":[]}']
)
def test_an_answer_without_choices_is_broken(body: bytes):
    assert chat.read_reply(body).finish_reason == "broken"
    assert chat.renamed(body, "p1") == body


@given(spoiled(VENDORS))
def test_no_answer_makes_reading_fail(body: Any):
    orjson.dumps(chat.read_reply(raw(body)))
    assert isinstance(chat.renamed(raw(body), "p1"), bytes)


@pytest.mark.parametrize("indent", [None, 2])
def test_renaming_changes_the_id_and_no_other_byte(indent: int | None):
    body = json.dumps(VENDORS, indent=indent).encode()
    new = chat.renamed(body, "p1")
    assert new == chat.renamed(body, "p1", "chatcmpl-9")
    assert new == body.replace(b'"chatcmpl-9"', b'"chatcmpl-p1"', 1)
    assert orjson.loads(new) == VENDORS | {"id": "chatcmpl-p1"}


def test_the_id_is_found_behind_other_ids_and_in_any_spelling():
    body = b'{"choices":[{"message":{"tool_calls":[{"id":"c1"}]}}],"id" : "chatcmpl\\u002d9"}'
    assert chat.renamed(body, "p1") == body.replace(b"chatcmpl\\u002d9", b"chatcmpl-p1")


def test_openais_client_reads_a_students_answer():
    body = chat.write_reply(REQUEST, ANSWER, **BY)
    answer = asked(client(body))
    assert answer.id == "chatcmpl-p1"
    assert answer.model == "auto"
    assert answer.created == BY["created"]
    assert answer.system_fingerprint == "loop-a7"
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is None
    assert answer.usage.total_tokens == 18
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert chat.read_reply(body) == Reply(
        text=SAID,
        finish_reason="stop",
        model="auto",
        response_id="chatcmpl-p1",
        tokens_in=11,
        tokens_cached=4,
        tokens_out=7,
    )


def test_nothing_of_the_server_leaks_into_a_students_answer():
    body = orjson.loads(chat.write_reply(REQUEST, ANSWER, **BY))
    assert set(body) == {
        *("id", "object", "created", "model", "system_fingerprint", "choices", "usage")
    }
    assert set(body["choices"][0]) == {"index", "message", "logprobs", "finish_reason"}


@pytest.mark.parametrize("wants_usage", [True, False])
def test_openais_client_reads_a_students_stream(wants_usage: bool):
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
    body |= {"stream": True, "stream_options": {"include_usage": wants_usage}}
    stream = chat.write_stream(chat.read_request(raw(body)), ANSWER, **BY)
    chunks = list(asked(client(stream, "text/event-stream"), stream=True))
    assert {chunk.id for chunk in chunks} == {"chatcmpl-p1"}
    assert [c.choices[0].delta.content for c in chunks if c.choices] == [SAID, None]
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, "stop"]
    assert [c.usage.total_tokens for c in chunks if c.usage] == [18] * wants_usage
    assert stream.endswith(b"data: [DONE]\n\n")


def test_openais_accumulator_takes_a_students_stream():
    stream = chat.write_stream(REQUEST, ANSWER, **BY)
    messages: Any = [{"role": "user", "content": "Hi"}]
    with client(stream, "text/event-stream").chat.completions.stream(
        model="auto", messages=messages
    ) as events:
        assert events.get_final_completion().choices[0].message.content == SAID


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (429, openai.RateLimitError),
        (502, openai.InternalServerError),
    ],
)
def test_openais_client_raises_our_errors_as_its_own(status: int, error: type[Exception]):
    body = chat.error_body(status, "It went wrong.", "loop_wrong", "messages")
    with pytest.raises(error) as caught:
        asked(client(body, status=status))
    raised: Any = caught.value
    assert (raised.code, raised.param) == ("loop_wrong", "messages")
    assert "It went wrong." in str(raised)


def test_openais_client_raises_the_event_that_ends_a_broken_stream():
    whole = chat.write_stream(REQUEST, ANSWER, **BY)
    broken = whole[: whole.index(b"\n\n") + 2] + chat.error_event(502, "It broke.", "loop_broken")
    with pytest.raises(openai.APIError, match="It broke") as caught:
        list(asked(client(broken, "text/event-stream"), stream=True))
    assert caught.value.code == "loop_broken"
