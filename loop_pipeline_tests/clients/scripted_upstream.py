"""A vendor that answers in three wire formats by a script: for the client suites.

    python -m loop_pipeline_tests.clients.scripted_upstream PORT

It calls the first tool (or the one it is told to) with arguments that fit its schema, until the
result of a tool is the last message; then, and without tools, it answers a text, or JSON that fits
the schema that was asked for. The same request always gets the same answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ["It ", "is ", "sunny ", "in ", "Lisbon."]
CREATED = 1_700_000_000
Events = Iterator[tuple[str, dict[str, Any]]]


def example(schema: Any) -> Any:
    """A value that fits a JSON schema of the usual kind."""
    if not isinstance(schema, dict):
        return "x"
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0])
    if "$ref" in schema:
        return {}
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: example(part) for name, part in schema.get("properties", {}).items()}
    values = {"array": [], "integer": 3, "number": 3, "boolean": True, "null": None}
    return (
        [example(schema["items"])]
        if kind == "array" and schema.get("items")
        else values.get(kind, "three")
    )


def _wanted_tool(tools: list[dict[str, Any]], choice: Any, seen: bool) -> dict[str, Any] | None:
    """The tool that is called, as (name, schema); None if a text is answered."""
    known = [t.get("function", t) for t in tools if t.get("function", t).get("name")]
    named = choice.get("function", choice).get("name") if isinstance(choice, dict) else None
    if not known or choice == "none" or (seen and named is None and choice != "required"):
        return None
    return next((tool for tool in known if tool["name"] == named), known[0])


def _arguments(tool: dict[str, Any]) -> str:
    return json.dumps(example(tool.get("parameters") or tool.get("input_schema") or {}))


def _text(schema: Any) -> list[str]:
    if schema is None:
        return WORDS
    whole = json.dumps(example(schema))
    return [whole[: len(whole) // 2], whole[len(whole) // 2 :]]


async def _sse(events: Events, named: bool) -> AsyncIterator[bytes]:
    for name, data in events:
        head = f"event: {name}\n" if named else ""
        yield f"{head}data: {json.dumps(data)}\n\n".encode()
    if not named:
        yield b"data: [DONE]\n\n"


def _streamed(events: Events, *, named: bool) -> Response:
    return StreamingResponse(_sse(events, named), media_type="text/event-stream")


# Chat completions


async def chat(request: Request) -> Response:
    """``POST /v1/chat/completions``."""
    asked = await request.json()
    messages = asked.get("messages", [])
    seen = bool(messages) and messages[-1].get("role") == "tool"
    tool = _wanted_tool(asked.get("tools") or [], asked.get("tool_choice"), seen)
    form = asked.get("response_format") or {}
    schema = (
        form.get("json_schema", {}).get("schema") if form.get("type") == "json_schema" else None
    )
    if form.get("type") == "json_object":
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    words = _text(schema)
    known = {"id": "chatcmpl-scripted", "created": CREATED, "model": asked.get("model", "scripted")}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    if asked.get("stream"):
        wants = (asked.get("stream_options") or {}).get("include_usage")
        return _streamed(_chat_events(known, tool, words, usage if wants else None), named=False)
    message: dict[str, Any] = {"role": "assistant", "content": None if tool else "".join(words)}
    if tool:
        call = {"name": tool["name"], "arguments": _arguments(tool)}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
    whole = known | {"object": "chat.completion", "choices": [choice], "usage": usage}
    return JSONResponse(whole)


def _chat_events(
    known: dict[str, Any], tool: dict[str, Any] | None, words: list[str], usage: Any
) -> Events:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[str, dict[str, Any]]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return "", known | {"object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": None if tool else ""})
    if tool:
        arguments = _arguments(tool)
        call = {"index": 0, "id": "call_1", "type": "function"}
        first = call | {"function": {"name": tool["name"], "arguments": ""}}
        yield chunk({"tool_calls": [first]})
        for part in (arguments[:5], arguments[5:]):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        yield from (chunk({"content": word}) for word in words)
    yield chunk({}, "tool_calls" if tool else "stop")
    if usage:
        yield "", known | {"object": "chat.completion.chunk", "choices": [], "usage": usage}


# Anthropic's Messages


async def messages(request: Request) -> Response:
    """``POST /v1/messages``."""
    asked = await request.json()
    last = (asked.get("messages") or [{}])[-1].get("content")
    seen = isinstance(last, list) and any(part.get("type") == "tool_result" for part in last)
    choice = asked.get("tool_choice") or {}
    tool = _wanted_tool(asked.get("tools") or [], choice if choice.get("name") else None, seen)
    usage = {"input_tokens": 11, "output_tokens": 7}
    known = {"id": "msg_scripted", "type": "message", "role": "assistant"}
    known |= {"model": asked.get("model", "scripted"), "stop_sequence": None}
    end = "tool_use" if tool else "end_turn"
    if asked.get("stream"):
        return _streamed(_message_events(known, tool, usage, end), named=True)
    block: dict[str, Any] = {"type": "text", "text": "".join(WORDS)}
    if tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": tool["name"]}
        block |= {"input": json.loads(_arguments(tool))}
    return JSONResponse(known | {"content": [block], "stop_reason": end, "usage": usage})


def _message_events(
    known: dict[str, Any], tool: dict[str, Any] | None, usage: dict[str, int], end: str
) -> Events:
    def event(kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
        return kind, {"type": kind} | more

    begun = known | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield event("message_start", message=begun)
    block: dict[str, Any] = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": word} for word in WORDS]
    if tool:
        arguments = _arguments(tool)
        block = {"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": {}}
        parts = (arguments[:5], arguments[5:])
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
    yield event("content_block_start", index=0, content_block=block)
    yield event("ping")
    for delta in deltas:
        yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    stopped = {"stop_reason": end, "stop_sequence": None}
    yield event("message_delta", delta=stopped, usage={"output_tokens": 7})
    yield event("message_stop")


# OpenAI's Responses


async def responses(request: Request) -> Response:
    """``POST /v1/responses``."""
    asked = await request.json()
    given = asked.get("input")
    items = given if isinstance(given, list) else []
    seen = any(item.get("type") == "function_call_output" for item in items)
    tool = _wanted_tool(asked.get("tools") or [], asked.get("tool_choice"), seen)
    whole = _response(asked, tool)
    return (
        _streamed(_response_events(whole), named=True)
        if asked.get("stream")
        else JSONResponse(whole)
    )


def _response(asked: dict[str, Any], tool: dict[str, Any] | None) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    item: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant"}
    item |= {"status": "completed", "content": [text]}
    if tool:
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1"}
        item |= {"name": tool["name"], "arguments": _arguments(tool), "status": "completed"}
    usage: dict[str, Any] = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    usage |= {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
    known = {"id": "resp_scripted", "object": "response", "created_at": CREATED}
    known |= {"status": "completed", "error": None, "incomplete_details": None, "metadata": {}}
    known |= {"instructions": asked.get("instructions"), "model": asked.get("model", "scripted")}
    known |= {"parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0}
    known |= {"tool_choice": asked.get("tool_choice") or "auto", "tools": asked.get("tools") or []}
    return known | {"output": [item], "usage": usage}


def _response_events(whole: dict[str, Any]) -> Events:
    count = 0

    def event(kind: str, **more: Any) -> tuple[str, dict[str, Any]]:
        nonlocal count
        count += 1
        return kind, {"type": kind, "sequence_number": count - 1} | more

    [item] = whole["output"]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    if item["type"] == "message":
        at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        empty = {"type": "output_text", "text": "", "annotations": []}
        started = item | {"content": [], "status": "in_progress"}
        yield event("response.output_item.added", output_index=0, item=started)
        yield event("response.content_part.added", **at, part=empty)
        for word in WORDS:
            yield event("response.output_text.delta", **at, delta=word, logprobs=[])
        yield event("response.output_text.done", **at, text="".join(WORDS), logprobs=[])
        yield event("response.content_part.done", **at, part=item["content"][0])
    else:
        at = {"item_id": item["id"], "output_index": 0}
        started = item | {"arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", output_index=0, item=started)
        for part in (item["arguments"][:5], item["arguments"][5:]):
            yield event("response.function_call_arguments.delta", **at, delta=part)
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield event("response.function_call_arguments.done", **at, **done)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=whole)


async def completions(request: Request) -> Response:
    """``POST /v1/completions``."""
    asked = await request.json()
    known = {"id": "cmpl-scripted", "object": "text_completion", "created": CREATED}
    known |= {"model": asked.get("model", "scripted")}
    choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}
    if asked.get("stream"):
        return _streamed(iter([("", known | {"choices": [choice]})]), named=False)
    return JSONResponse(known | {"choices": [choice]})


async def models(_request: Request) -> Response:
    """``GET /v1/models``."""
    card = {"id": "scripted", "object": "model", "created": CREATED, "owned_by": "tests"}
    return JSONResponse({"object": "list", "data": [card]})


Endpoint = Callable[[Request], Awaitable[Response]]


def refusing(answer: Endpoint) -> Endpoint:
    """The same, refusing as a vendor does what it cannot read."""

    async def answered(request: Request) -> Response:
        try:
            if not isinstance((await request.json()).get("model"), str):
                raise TypeError
            return await answer(request)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            said = {"message": "this request is not understood", "type": "invalid_request_error"}
            return JSONResponse({"type": "error", "error": said}, 400)

    return answered


app = Starlette(
    routes=[
        Route("/v1/chat/completions", refusing(chat), methods=["POST"]),
        Route("/v1/messages", refusing(messages), methods=["POST"]),
        Route("/v1/responses", refusing(responses), methods=["POST"]),
        Route("/v1/completions", refusing(completions), methods=["POST"]),
        Route("/v1/models", models),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
