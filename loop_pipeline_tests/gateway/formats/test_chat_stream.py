"""A stream passes as it came, and its pieces make up the answer whatever way they were cut."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_pipeline.gateway.formats import chat_completions as chat
from loop_pipeline.gateway.formats.exchange import Reply
from loop_pipeline.gateway.formats.sse import DONE, event_of
from loop_pipeline_tests.gateway.formats.wire_samples import raw, read_through, spoiled

ASKED: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
}


def reader(usage: bool = False, **more: Any) -> chat.StreamReader:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    return chat.StreamReader(chat.read_request(raw(ASKED | options | more)), "p1")


def chunk(delta: Any = None, reason: Any = None, index: int = 0, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": reason}]
    return event_of({"id": "chatcmpl-9", "model": "m-2026", "choices": choices} | more)


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
TEXT = [chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"})]
TEXT += [chunk({"content": "lo"}), chunk({}, "stop"), chunk(usage=USAGE), DONE]


def reply_of(*events: bytes) -> Reply:
    seen = reader()
    read_through(seen, b"".join(events))
    return seen.reply()


def test_the_answer_is_whole_and_the_client_gets_it_under_our_id():
    seen = reader(usage=True)
    passed = read_through(seen, b"".join(TEXT))
    assert passed == b"".join(TEXT).replace(b"chatcmpl-9", b"chatcmpl-p1")
    assert seen.ended
    assert seen.reply() == Reply(
        text="Hello",
        finish_reason="stop",
        model="m-2026",
        response_id="chatcmpl-9",
        tokens_in=5,
        tokens_out=2,
    )


def test_only_the_usage_that_the_client_did_not_ask_for_is_kept_back():
    seen = reader()
    beside = chunk({"content": "x"}, usage=USAGE)
    azure = chunk(prompt_filter_results=[])
    passed = read_through(seen, azure + beside + b"".join(TEXT))
    expected = azure + beside + b"".join(TEXT[:4]) + DONE
    assert passed == expected.replace(b"chatcmpl-9", b"chatcmpl-p1")
    assert seen.reply().tokens_in == 5


def test_an_answer_that_openai_stores_keeps_its_id():
    assert read_through(reader(usage=True, store=True), b"".join(TEXT)) == b"".join(TEXT)


def test_the_last_usage_counts_wherever_it_stands():
    first = chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1})
    last = chunk({"content": "b"}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 2})
    reply = reply_of(first, last, chunk(usage=None), DONE)
    assert (reply.text, reply.tokens_out) == ("ab", 2)


@given(st.lists(st.integers(0, 700), max_size=8), st.booleans())
def test_crlf_and_any_cut_give_the_same(cuts: list[int], crlf: bool):
    from loop_pipeline.gateway.formats.sse import Events

    stream = b"".join(TEXT).replace(b"\n", b"\r\n") if crlf else b"".join(TEXT)
    marks = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    seen, cutter = reader(usage=True), Events()
    passed = b""
    for a, b in itertools.pairwise(marks):
        passed += b"".join(seen.take(event) for event in cutter.feed(stream[a:b]))
    assert passed == stream.replace(b"chatcmpl-9", b"chatcmpl-p1")
    assert seen.reply().text == "Hello"


def call(index: int | None, **parts: Any) -> dict[str, Any]:
    function = {name: parts.pop(name) for name in ("name", "arguments") if name in parts}
    return ({} if index is None else {"index": index}) | parts | {"function": function}


def calls_of(*pieces: dict[str, Any]) -> list[tuple[str, str, str]]:
    events = [chunk({"tool_calls": [piece]}) for piece in pieces]
    reply = reply_of(*events, chunk({}, "tool_calls"), DONE)
    assert reply.finish_reason == "tool_calls"
    found = [(c["id"], c["function"]) for c in reply.tool_calls]
    return [(call_id, function["name"], function["arguments"]) for call_id, function in found]


def test_tool_calls_are_put_together_by_index():
    assert calls_of(
        call(0, id="a", name="get_", arguments=""),
        call(1, id="b", name="put", arguments="{"),
        call(0, name="one", arguments='{"x"'),
        call(1, arguments="}"),
        call(0, arguments=":1}"),
    ) == [("a", "get_one", '{"x":1}'), ("b", "put", "{}")]


def test_without_an_index_the_id_tells_calls_apart():
    assert calls_of(
        call(None, id="a", name="f", arguments="{"),
        call(None, arguments="}"),
        call(None, id="b", name="g", arguments="{"),
        call(None, id="b", arguments="}"),
        call(None, id="a", arguments=" "),
    ) == [("a", "f", "{} "), ("b", "g", "{}")]


def test_another_id_and_name_under_the_same_index_are_another_call():
    assert calls_of(
        call(0, id="a", name="f", arguments="{}"),
        call(0, id="b", name="f", arguments="[]"),
        call(0, arguments=" "),
    ) == [("a", "f", "{}"), ("b", "f", "[] ")]


def test_an_id_that_changes_with_every_piece_is_still_one_call():
    assert calls_of(call(0, id="a", name="f", arguments="{"), call(0, id="b", arguments="}")) == [
        ("a", "f", "{}")
    ]


def test_the_older_function_call_is_a_tool_call():
    pieces = [{"name": "f", "arguments": "{"}, {"arguments": "}"}]
    events = [chunk({"function_call": piece}) for piece in pieces]
    reply = reply_of(*events, chunk({}, "function_call"), DONE)
    assert reply.tool_calls[0]["function"] == {"name": "f", "arguments": "{}"}
    assert reply.finish_reason == "tool_calls"


def test_of_several_choices_the_first_is_the_answer():
    second, first = chunk({"content": "B"}, "stop", index=1), chunk({"content": "A"}, "stop")
    assert reply_of(second, first, DONE).text == "A"


def test_a_stream_whose_second_choice_goes_on_has_not_ended():
    seen = reader()
    read_through(seen, chunk({"content": "A"}, "stop") + chunk({"content": "B"}, index=1))
    assert not seen.ended


def test_refusals_are_marked_and_reasoning_is_counted_only():
    reply = reply_of(chunk({"refusal": "I can"}), chunk({"refusal": "not."}, "stop"), DONE)
    assert (reply.text, reply.refusal) == ("I cannot.", True)
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 2}}
    thought = chunk({"reasoning_content": "hm", "reasoning": "hm"})
    reply = reply_of(thought, chunk({"content": "Yes"}, "stop"), chunk(usage=usage), DONE)
    assert (reply.text, reply.tokens_reasoning) == ("Yes", 2)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_stream_without_an_end_is_broken(kept: int):
    seen = reader()
    read_through(seen, b"".join(TEXT[:kept]))
    assert not seen.ended
    assert seen.reply().finish_reason == "broken"


def test_a_finish_reason_or_done_is_an_end():
    assert reply_of(*TEXT[:4]).finish_reason == "stop"
    seen = reader()
    read_through(seen, b"".join(TEXT[:3]) + DONE)
    assert seen.ended
    assert seen.reply().finish_reason is None


def test_the_vendors_own_error_ends_the_stream_and_teaches_nothing():
    seen = reader()
    error = event_of({"error": {"message": "overloaded"}})
    assert read_through(seen, TEXT[1] + error).endswith(error)
    assert seen.ended
    assert seen.reply().finish_reason == "broken"


def test_an_event_that_cannot_be_read_is_passed_on_and_the_answer_teaches_nothing():
    torn = b'data: {"choices":[{"delta":{"content":"x\n\n'
    seen = reader(usage=True)
    assert torn in read_through(seen, TEXT[1] + torn + b"".join(TEXT[2:]))
    assert seen.ended
    assert seen.reply().finish_reason == "broken"


def test_comments_pass_and_empty_data_does_not():
    seen = reader()
    assert seen.take(b": PROCESSING\n\n") == b": PROCESSING\n\n"
    assert seen.take(b"data:\n\n") == seen.take(b"event: x\ndata: \n\n") == b""
    assert seen.take(b"data: ping\n\n") == b"data: ping\n\n"
    read_through(seen, b"".join(TEXT))
    assert seen.reply().finish_reason == "stop"


@given(st.lists(st.one_of(*(spoiled(orjson.loads(event[6:])) for event in TEXT[:5])), max_size=4))
def test_no_event_makes_reading_fail(values: list[Any]):
    seen = reader()
    for value in values:
        seen.take(b"data: " + raw(value) + b"\n\n")
    orjson.dumps(seen.reply())
    assert isinstance(seen.ended, bool)


def test_openais_accumulator_puts_the_same_answer_together():
    from loop_pipeline_tests.gateway.formats.test_chat_answers import client

    pieces = [
        call(0, id="a", type="function", name="get", arguments=""),
        call(0, arguments='{"x":'),
        call(0, arguments="1}"),
    ]
    events = [*TEXT[:3], *(chunk({"tool_calls": [p]}) for p in pieces), chunk({}, "tool_calls")]
    stream = b"".join([*events, chunk(usage=USAGE), DONE])
    stream = stream.replace(b'"model"', b'"object":"chat.completion.chunk","created":1,"model"')
    seen = reader(usage=True)
    passed = read_through(seen, stream)
    messages: Any = [{"role": "user", "content": "Hi"}]
    with client(passed, "text/event-stream").chat.completions.stream(
        model="m", messages=messages, stream_options={"include_usage": True}
    ) as theirs:
        final = theirs.get_final_completion()
    message, reply = final.choices[0].message, seen.reply()
    assert final.id == "chatcmpl-p1"
    assert message.content == reply.text == "Hello"
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"x":1}'
    assert reply.tool_calls[0]["function"] == {"name": "get", "arguments": '{"x":1}'}
    assert final.usage is not None
    assert final.usage.prompt_tokens == reply.tokens_in == 5
