"""How Python clients take streams that break, at ``BASE_URL``: printed as JSON.

Runs in the environment of the client suites, not in the project's. Of every client and case:
``["raised", kind]`` or ``["whole", text]``.
"""

import asyncio
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
from langchain_openai import ChatOpenAI

BASE = os.environ["BASE_URL"]
CASES = os.environ["CASES"].split(",")
CLIENT = openai.OpenAI(base_url=BASE, api_key="none", max_retries=0)
CHAT: Any = ChatOpenAI(base_url=BASE, api_key="none", model="m", max_retries=0)  # pyright: ignore[reportArgumentType]


def asked(case: str) -> Any:
    """A request that says what is to go wrong."""
    return {"model": "m", "messages": [{"role": "user", "content": case}]}


def openai_stream(case: str) -> str:
    """openai's stream."""
    stream = CLIENT.chat.completions.create(**asked(case), stream=True)
    return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)


def openai_helper(case: str) -> str:
    """openai's helper that puts the answer together."""
    with CLIENT.chat.completions.stream(**asked(case)) as stream:
        return stream.get_final_completion().choices[0].message.content or ""


def openai_whole(case: str) -> str:
    """openai, not streamed."""
    return CLIENT.chat.completions.create(**asked(case)).choices[0].message.content or ""


def openai_async(case: str) -> str:
    """openai's asynchronous stream."""

    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=BASE, api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(**asked(case), stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return asyncio.run(run())


def langchain(case: str) -> str:
    """LangChain's stream."""
    return "".join(part.content for part in CHAT.stream(asked(case)["messages"]))


def leaves(case: str) -> str:
    """Each goes after the first word."""
    stream = CLIENT.chat.completions.create(**asked(case), stream=True)
    next(iter(stream))
    stream.close()
    parts = CHAT.stream(asked(case)["messages"])
    next(parts)
    parts.close()

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=BASE, api_key="none") as client:
            stream = await client.chat.completions.create(**asked(case), stream=True)
            await anext(aiter(stream))
            await stream.close()

    asyncio.run(run())
    return "left"


def outcome(ask: Callable[[str], str], case: str) -> list[str]:
    """What came of it."""
    try:
        return ["whole", ask(case)]
    except Exception as error:  # noqa: BLE001  what it is is what is asked
        return ["raised", type(error).__name__]


ASKS = (openai_stream, openai_helper, openai_whole, openai_async, langchain)
with ThreadPoolExecutor(40) as pool:
    found = {
        f"{ask.__name__}: {case}": pool.submit(outcome, ask, case)
        for ask in ((leaves,) if CASES == ["leaves"] else ASKS)
        for case in CASES
    }
    print(json.dumps({name: future.result() for name, future in found.items()}))
