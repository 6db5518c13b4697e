"""Tool loops of agent libraries against ``BASE_URL``: prints what they saw, as JSON.

Runs in the environment of the client suites, not in the project's.
"""

import asyncio
import json
import os
from typing import Any

BASE = os.environ["BASE_URL"]
seen: dict[str, Any] = {}


async def openai_agents() -> None:
    """openai-agents by Responses and by chat completions, streamed and not."""
    from agents import (
        Agent,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI

    set_tracing_disabled(True)

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    client = AsyncOpenAI(base_url=BASE, api_key="none")
    for kind in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        model = kind("scripted", client)
        agent = Agent(name="a", instructions="Help.", model=model, tools=[weather])
        run = await Runner.run(agent, "What is the weather in Lisbon?")
        seen[f"{kind.__name__} run"] = [run.final_output, [i.type for i in run.new_items]]
        stream = Runner.run_streamed(agent, "What is the weather in Lisbon?")
        events = [event.type async for event in stream.stream_events()]
        seen[f"{kind.__name__} stream"] = [stream.final_output, events]


async def pydantic_ai() -> None:
    """pydantic-ai: a tool loop, streamed, and a typed answer."""
    from pydantic import BaseModel
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class City(BaseModel):
        name: str
        people: int

    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=BASE, api_key="none"))
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    run = await agent.run("What is the weather in Lisbon?")
    seen["pydantic-ai run"] = [run.output, [type(m).__name__ for m in run.all_messages()]]
    async with agent.run_stream("What is the weather in Lisbon?") as stream:
        seen["pydantic-ai stream"] = [text async for text in stream.stream_text(debounce_by=None)]
    typed = await Agent(model, output_type=City).run("Name a city.")
    seen["pydantic-ai typed"] = typed.output.model_dump()


async def anthropic() -> None:
    """Anthropic's client: a tool loop, streamed and not."""
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(base_url=BASE.removesuffix("/v1"), api_key="none")
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools: Any = [{"name": "weather", "description": "The weather.", "input_schema": schema}]
    said: list[Any] = [{"role": "user", "content": "What is the weather in Lisbon?"}]
    asked: dict[str, Any] = {"model": "scripted", "max_tokens": 100, "tools": tools}
    first = await client.messages.create(**asked, messages=said)
    block: Any = first.content[0]
    seen["anthropic call"] = [first.stop_reason, block.name, block.input]
    result = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
    said += [
        {"role": "assistant", "content": [block.model_dump(exclude_none=True)]},
        {"role": "user", "content": [result]},
    ]
    async with client.messages.stream(**asked, messages=said) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_message()
    last: Any = final.content[0]
    seen["anthropic stream"] = [last.text, events, final.usage.output_tokens]


async def main() -> None:
    """All of them, one after the other."""
    await openai_agents()
    await pydantic_ai()
    await anthropic()
    print(json.dumps(seen, indent=1, default=str))


asyncio.run(main())
