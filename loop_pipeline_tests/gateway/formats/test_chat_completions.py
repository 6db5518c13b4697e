"""What a request asks for, and which fields make it the frontier's alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given

from loop_pipeline.gateway.formats.chat_completions import read_request, with_usage
from loop_pipeline.gateway.formats.exchange import BadRequest, Request
from loop_pipeline_tests.gateway.formats.wire_samples import raw, spoiled

PLAIN: dict[str, Any] = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FULL: dict[str, Any] = PLAIN | {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "ann"},
        {"role": "assistant", "content": "Hello", "tool_calls": None, "refusal": None},
        {"role": "user", "content": "And now?"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "top_p": 1,
    "seed": 7,
    "max_tokens": 50,
    "max_completion_tokens": 40,
    "stop": ["END", "\n"],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "user": "u1",
    "safety_identifier": "s1",
    "metadata": {"team": "a"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "service_tier": "auto",
    "reasoning_effort": "low",
    "verbosity": "low",
    "store": False,
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "logprobs": False,
    "tools": [],
    "modalities": ["text"],
    "logit_bias": {},
    "audio": None,
}


def read(**changes: Any) -> Request:
    return read_request(raw(PLAIN | changes))


def test_a_request_with_every_harmless_field_may_go_to_a_student():
    request = read_request(raw(FULL))
    assert request.frontier_only is None
    assert request.messages[0] == {"role": "system", "content": "Be brief."}
    assert request.messages[1:] == FULL["messages"][1:]
    assert request.stream
    assert request.wants_usage
    assert request.contract == {"kind": "json", "schema": SCHEMA}
    assert request.max_tokens == 40
    assert request.stop == ("END", "\n")
    assert request.user == "s1"
    assert request.tags == {"team": "a"}
    assert request.tools is None
    assert not request.stored
    assert request.parameters["seed"] == 7
    assert "metadata" not in request.parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tools", "f"),
        ("functions", [{"name": "f"}]),
        ("n", 2),
        ("n", True),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("temperature", 1.2),
        ("temperature", -0.1),
        ("temperature", "0"),
        ("temperature", True),
        ("presence_penalty", 0.1),
        ("frequency_penalty", -1),
        ("logit_bias", {"50256": -100}),
        ("store", True),
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("web_search_options", {}),
        ("prediction", {"type": "content", "content": "x"}),
        ("tool_choice", "required"),
        ("invented_later", 1),
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("stop", [1]),
        ("stop", ""),
        ("seed", 1.5),
        ("stream", 1),
        ("stream_options", {"include_usage": True}),
        ("user", 3),
        ("metadata", "x"),
        ("response_format", {"type": "grammar"}),
        ("response_format", "json"),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}),
        ("response_format", {"type": "json_schema"}),
    ],
)
def test_every_other_field_or_value_is_the_frontiers_and_named(field: str, value: Any):
    assert read(**{field: value}).frontier_only == field


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "tool", "tool_call_id": "c", "content": "1"}, "messages[0].role"),
        ({"role": "assistant", "content": None, "tool_calls": [{}]}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": [{}], "content": "x"}, "messages[0].tool_calls"),
        ({"role": "assistant", "content": "x", "refusal": "no"}, "messages[0].refusal"),
        ({"role": "user", "content": []}, "messages[0].content"),
        ({"role": "user", "content": ["Hi"]}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": "x", "name": {}}, "messages[0].name"),
        ({"role": "user", "content": "x", "new": 1}, "messages[0].new"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0].content",
        ),
    ],
)
def test_one_message_that_is_not_text_is_enough(message: dict[str, Any], reason: str):
    assert read(messages=[message, *PLAIN["messages"]]).frontier_only == reason


def test_a_request_with_tools_keeps_them_for_the_trace():
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = read(tools=tools, tool_choice="auto")
    assert request.tools == tools
    assert request.parameters == {"tool_choice": "auto"}


def test_any_json_is_a_contract_too():
    request = read(response_format={"type": "json_object"})
    assert request.contract == {"kind": "json", "schema": {"type": "object"}}
    assert request.frontier_only is None
    assert read(response_format={"type": "text"}).contract is None


def test_a_text_cut_inside_an_emoji_goes_to_the_frontier():
    request = read_request(b'{"model":"m","messages":[{"role":"user","content":"a\\ud83d"}]}')
    assert request.messages[0]["content"] == "a?"
    assert request.frontier_only == "text that is not Unicode"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ],
)
def test_a_bad_request_names_the_field(changes: dict[str, Any], field: str):
    with pytest.raises(BadRequest) as caught:
        read(**changes)
    assert caught.value.field == field
    assert field in str(caught.value)


@given(spoiled(FULL))
def test_no_body_makes_anything_but_a_request_or_a_bad_request(body: Any):
    try:
        request = read_request(raw(body))
    except BadRequest:
        return
    orjson.dumps(
        [request.messages, request.parameters, request.tools, request.tags, request.contract]
    )
    assert "\n" not in (request.frontier_only or "")


@pytest.mark.parametrize("more", [{}, {"stream_options": None}, {"stream_options": {}}])
def test_usage_is_asked_for_and_nothing_else_is_changed(more: dict[str, Any]):
    body = raw(PLAIN | {"stream": True, "seed": 2**63, "unknown": {"stream": 1}} | more)
    asked = orjson.loads(with_usage(body))
    assert asked.pop("stream_options") == {"include_usage": True}
    before = orjson.loads(body)
    before.pop("stream_options", None)
    assert asked == before


def test_usage_keeps_the_other_stream_options():
    body = raw(PLAIN | {"stream_options": {"include_obfuscation": False}})
    options = orjson.loads(with_usage(body))["stream_options"]
    assert options == {"include_obfuscation": False, "include_usage": True}


def test_usage_is_asked_for_without_writing_the_body_anew():
    body = b'  { "model" : "m", "seed" : 123456789012345678901234567890 }'
    assert with_usage(body).endswith(body[3:])
    assert orjson.loads(with_usage(body))["stream_options"] == {"include_usage": True}
