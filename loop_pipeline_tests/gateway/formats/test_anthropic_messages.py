"""Requests of Anthropic's Messages become messages of chat, and only plain text is a student's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from loop_pipeline.gateway.formats.anthropic_messages import read_request
from loop_pipeline.gateway.formats.exchange import BadRequest, Request
from loop_pipeline_tests.gateway.formats.wire_samples import raw, spoiled

PLAIN: dict[str, Any] = {
    "model": "claude",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}
CACHED = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
FULL: dict[str, Any] = PLAIN | {
    "system": [CACHED, {"type": "text", "text": "Be kind."}],
    "messages": [
        {"role": "user", "content": [CACHED]},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello", "citations": None}]},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
    ],
    "stream": True,
    "temperature": 1,
    "top_p": 0.9,
    "top_k": 5,
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u1"},
    "service_tier": "auto",
    "tools": [],
    "thinking": {"type": "disabled"},
}
TOOLS: dict[str, Any] = PLAIN | {
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "messages": [
        {"role": "user", "content": "Look"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "I will."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": [1]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": CACHED["text"]},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [{"type": "text", "text": "2"}],
                },
                {"type": "text", "text": "Well?"},
                {"type": "image", "source": {"type": "url", "url": "x"}},
            ],
        },
    ],
}


def read(**changes: Any) -> Request:
    return read_request(raw(PLAIN | changes))


def test_plain_text_may_go_to_a_student_in_the_form_of_chat():
    request = read_request(raw(FULL))
    assert request.frontier_only is None
    assert request.wire == "messages"
    assert request.messages == [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {"role": "user", "content": "Be brief."},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": FULL["messages"][2]["content"]},
    ]
    assert request.stream
    assert request.max_tokens == 100
    assert request.stop == ("END",)
    assert request.tools is None
    assert request.parameters["top_k"] == 5


def test_the_user_is_not_kept_among_the_tags():
    request = read(metadata={"user_id": "u1", "team": "a"})
    assert (request.user, request.tags) == ("u1", {"team": "a"})


def test_tool_calls_and_results_become_those_of_chat():
    request = read_request(raw(TOOLS))
    assert request.frontier_only == "tools"
    assert request.tools == TOOLS["tools"]
    assert request.messages[1:] == [
        {
            "role": "assistant",
            "content": "I will.",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x":[1]}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "Be brief."},
        {"role": "tool", "tool_call_id": "t2", "content": "2"},
        {"role": "user", "content": TOOLS["messages"][2]["content"][2:]},
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"name": "f"}]),
        ("tool_choice", {"type": "auto"}),
        ("thinking", {"type": "enabled", "budget_tokens": 1024}),
        ("temperature", 1.5),
        ("max_tokens", None),
        ("max_tokens", "9"),
        ("system", 3),
        ("system", [{"type": "image"}]),
        ("stop_sequences", "END"),
        ("output_config", {"format": {"type": "json_schema", "schema": {}}}),
        ("container", "c"),
        ("mcp_servers", []),
        ("invented_later", 0),
    ],
)
def test_every_other_field_or_value_is_the_frontiers_and_named(field: str, value: Any):
    assert read(**{field: value}).frontier_only == field


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image", "source": {}}],
        [{"type": "tool_result", "tool_use_id": "t", "content": "1"}],
        [{"type": "thinking", "thinking": "hm"}],
        [{"type": "text", "text": "x", "citations": [{}]}],
        [{"type": ["text"], "text": "x"}],
        ["x"],
        [],
        None,
    ],
)
def test_one_message_that_is_not_text_is_enough(content: Any):
    request = read(messages=[{"role": "user", "content": content}, *PLAIN["messages"]])
    assert request.frontier_only == "messages[0].content"


def test_an_answer_that_is_begun_is_the_frontiers_to_go_on_with():
    begun = [*PLAIN["messages"], {"role": "assistant", "content": "{"}]
    assert read(messages=begun).frontier_only == "messages[1].role"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_bad_request_names_the_field(field: str):
    with pytest.raises(BadRequest) as caught:
        read(**{field: None})
    assert caught.value.field == field


@given(spoiled(FULL) | spoiled(TOOLS))
def test_no_body_makes_anything_but_a_request_or_a_bad_request(body: Any):
    try:
        request = read_request(raw(body))
    except BadRequest:
        return
    orjson.dumps([request.messages, request.parameters, request.tools, request.tags])
    assert all(isinstance(message["content"], str | list | None) for message in request.messages)
