"""Requests of Responses become messages of chat; what keeps a state is never a student's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from loop_pipeline.gateway.formats.exchange import BadRequest, Request
from loop_pipeline.gateway.formats.openai_responses import UNNAMED, read_request
from loop_pipeline_tests.gateway.formats.wire_samples import raw, spoiled

PLAIN: dict[str, Any] = {"model": "gpt-5.5", "input": "Hi", "store": False}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
SAID = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
FULL: dict[str, Any] = PLAIN | {
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "Be kind."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [SAID],
        },
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "A"}, {"type": "input_text", "text": "B"}],
        },
    ],
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "temperature": 0,
    "top_p": 1,
    "max_output_tokens": 50,
    "text": {
        "format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True},
        "verbosity": "low",
    },
    "reasoning": {"effort": "low", "summary": None},
    "metadata": {"team": "a"},
    "safety_identifier": "s1",
    "user": "u1",
    "service_tier": "auto",
    "background": False,
    "include": [],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "truncation": "disabled",
    "previous_response_id": None,
    "conversation": None,
}
TOOLS: dict[str, Any] = {
    "model": "gpt-5.5",
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "input": [
        {"role": "user", "content": "Look"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "9"},
        {"type": "item_reference", "id": "msg_1"},
    ],
}


def read(**changes: Any) -> Request:
    return read_request(raw(PLAIN | changes))


def test_plain_text_that_is_not_stored_may_go_to_a_student_in_the_form_of_chat():
    request = read_request(raw(FULL))
    assert request.frontier_only is None
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": t} for t in "AB"]},
    ]
    assert request.contract == {"kind": "json", "schema": SCHEMA}
    assert request.max_tokens == 50
    assert (request.user, request.tags) == ("s1", {"team": "a"})
    assert not request.stored
    assert read().messages == [{"role": "user", "content": "Hi"}]


def test_calls_of_tools_become_those_of_chat_and_reasoning_is_not_kept():
    request = read_request(raw(TOOLS))
    assert request.frontier_only == "tools"
    function = {"name": "f", "arguments": '{"x": 1}'}
    assert request.messages == [
        {"role": "user", "content": "Look"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "9"},
        {"role": "assistant", "content": [{"type": "item_reference", "id": "msg_1"}]},
    ]


@pytest.mark.parametrize("store", [None, True, 0])
def test_an_answer_that_openai_keeps_is_its_own(store: Any):
    request = read(store=store)
    assert request.frontier_only == "store"
    assert request.stored


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("background", True),
        ("tools", [{"type": "web_search"}]),
        ("tool_choice", "required"),
        ("prompt", {"id": "pmpt_1"}),
        ("include", ["reasoning.encrypted_content"]),
        ("reasoning", {"summary": "auto"}),
        ("truncation", "auto"),
        ("top_logprobs", 2),
        ("temperature", 1.1),
        ("text", {"format": {"type": "text"}, "invented": 1}),
        ("context_management", []),
        ("invented_later", 0),
    ],
)
def test_every_other_field_or_value_is_the_frontiers_and_named(field: str, value: Any):
    assert read(**{field: value}).frontier_only == field


def test_a_form_that_cannot_be_checked_is_the_frontiers():
    for form in ({"type": "grammar"}, {"type": "json_schema", "schema": {"$ref": "#"}}, 3):
        assert read(text={"format": form}).frontier_only == "text.format"
    assert read(text={"format": {"type": "json_object"}}).frontier_only is None


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"type": "function_call_output", "call_id": "c", "output": "1"}, "input[0].type"),
        ({"type": "reasoning"}, "input[0].type"),
        ({"role": "user", "content": "x", "phase": "final"}, "input[0]"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content"),
        ({"role": "user", "content": [SAID | {"annotations": [{}]}]}, "input[0].content"),
        ({"role": "critic", "content": "x"}, "messages[0].role"),
    ],
)
def test_one_item_that_is_not_plain_text_is_enough(item: dict[str, Any], reason: str):
    assert read(input=[item, {"role": "user", "content": "Hi"}]).frontier_only == reason


def test_a_request_that_leaves_all_to_a_stored_prompt_is_captured():
    request = read_request(b'{"prompt":{"id":"pmpt_1"}}')
    assert (request.model, request.frontier_only) == (UNNAMED, "prompt")
    assert request.messages == [{"role": "user", "content": ""}]
    assert read(input=[]).frontier_only == "input"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"model": 3}, "model"), ({"input": 3}, "input"), ({"input": ["x"]}, "input[0]")],
)
def test_a_bad_request_names_the_field(changes: dict[str, Any], field: str):
    with pytest.raises(BadRequest) as caught:
        read(**changes)
    assert caught.value.field == field


@given(spoiled(FULL) | spoiled(TOOLS))
def test_no_body_makes_anything_but_a_request_or_a_bad_request(body: Any):
    try:
        request = read_request(raw(body))
    except BadRequest:
        return
    orjson.dumps([request.messages, request.parameters, request.tools, request.tags])
    assert all(isinstance(message["content"], str | list | None) for message in request.messages)
