"""What Python clients see of the student's answers at ``BASE_URL``: printed as JSON.

Runs in the environment of the client suites, not in the project's.
"""

import asyncio
import json
import os
from typing import Any

import anthropic
import openai
from langchain_openai import ChatOpenAI

BASE = os.environ["BASE_URL"]
PLAIN: Any = [{"role": "user", "content": "What is the weather in Lisbon?"}]
UNSURE: Any = [{"role": "user", "content": "What is the weather in Lisbon? I am unsure."}]
ASKED: Any = {"model": "scripted", "messages": PLAIN}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
OPTIONS: Any = ({}, {"stream_options": {"include_usage": True}})
seen: dict[str, Any] = {}


def summed(chunks: list[Any], route: str) -> list[Any]:
    """A stream of chat chunks, put together."""
    choices = [c.choices[0] for c in chunks if c.choices]
    usage = [c.usage.total_tokens for c in chunks if c.usage]
    text = "".join(c.delta.content or "" for c in choices)
    ends = [c.finish_reason for c in choices if c.finish_reason]
    return [route, chunks[0].id[:9], text, ends, usage, chunks[0].system_fingerprint]


def openai_sync() -> None:
    """openai: whole, streamed, with and without usage, and what is the frontier's."""
    client = openai.OpenAI(base_url=BASE, api_key="none")
    raw = client.chat.completions.with_raw_response
    cases: dict[str, Any] = {
        "plain": ASKED,
        "auto": ASKED | {"model": "auto"},
        "unsure": ASKED | {"messages": UNSURE},
        "schema": ASKED | {"response_format": SCHEMA},
        "system": ASKED | {"messages": [{"role": "system", "content": "Rhyme."}, *PLAIN]},
        "n": ASKED | {"n": 2},
    }
    for name, asked in cases.items():
        got = raw.create(**asked)
        whole = got.parse()
        choice, usage = whole.choices[0], whole.usage
        seen[f"openai {name}"] = [
            got.headers.get("x-loop-route"),
            whole.id[:9],
            choice.message.content,
            [choice.finish_reason],
            [usage.total_tokens if usage else None],
            whole.system_fingerprint,
        ]
        for options in OPTIONS:
            streamed = raw.create(**asked, stream=True, **options)
            chunks = list(streamed.parse())
            found = summed(chunks, streamed.headers.get("x-loop-route") or "")
            seen[f"openai {name} streamed {'usage' if options else ''}".strip()] = found
    with client.chat.completions.stream(**ASKED) as stream:
        final = stream.get_final_completion()
    seen["openai helper"] = final.choices[0].message.content


async def openai_async() -> None:
    """Responses, and the asynchronous client."""
    client = openai.AsyncOpenAI(base_url=BASE, api_key="none")
    stream = await client.chat.completions.create(**ASKED, stream=True)
    seen["async openai"] = summed([chunk async for chunk in stream], "")[1:4]
    asked: Any = {"model": "scripted", "input": PLAIN[0]["content"], "store": False}
    seen["responses"] = (await client.responses.create(**asked)).output_text
    async with client.responses.stream(**asked) as events:
        async for _ in events:
            pass
        seen["responses streamed"] = (await events.get_final_response()).output_text
    kept = asked | {"store": True}
    seen["responses stored"] = (await client.responses.create(**kept)).output_text


def langchain() -> None:
    """LangChain's messages, whole and streamed."""
    model: Any = ChatOpenAI(base_url=BASE, api_key="none", model="scripted", stream_usage=True)  # pyright: ignore[reportArgumentType]
    whole = model.invoke(PLAIN)
    seen["langchain"] = [whole.content, whole.usage_metadata["total_tokens"], whole.id[:3]]
    parts = list(model.stream(PLAIN))
    total = parts[0]
    for part in parts[1:]:
        total += part
    seen["langchain streamed"] = [total.content, total.usage_metadata["total_tokens"]]


def messages() -> None:
    """Anthropic's client, whole and streamed."""
    client = anthropic.Anthropic(base_url=BASE.removesuffix("/v1"), api_key="none")
    asked: Any = ASKED | {"max_tokens": 100}
    whole: Any = client.messages.create(**asked)
    seen["anthropic"] = [whole.content[0].text, whole.stop_reason, whole.usage.output_tokens]
    with client.messages.stream(**asked) as stream:
        final: Any = stream.get_final_message()
    said = [final.content[0].text, final.stop_reason, final.usage.output_tokens]
    seen["anthropic streamed"] = said


openai_sync()
asyncio.run(openai_async())
langchain()
messages()
print(json.dumps(seen))
