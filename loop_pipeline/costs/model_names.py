"""What else a model may be called: by clouds, proxies and builds, the most exact name first.

Not here: the prices of these names (``list_prices.py``, ``own_prices.py``).

``vertex_ai/claude-opus-5@20260201`` is sold by Google; ``us.anthropic.claude-opus-5-v1:0`` by
Amazon, at prices of its own. A build without a price bills as the model that it is a build of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# What proxies and SDKs put before a name, and the seller as the price list calls it.
SELLERS = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "gemini": "google",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "vertexai": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "azure": "azure",
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "amazon_bedrock": "aws",
    "amazon-bedrock": "aws",
    "aws": "aws",
    "mistral": "mistral",
    "mistralai": "mistral",
    "codestral": "mistral",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "x-ai": "x-ai",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "groq": "groq",
    "together_ai": "together",
    "together": "together",
    "fireworks_ai": "fireworks",
    "fireworks": "fireworks",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "cerebras": "cerebras",
    "novita": "novita",
    "databricks": "databricks",
    "moonshot": "moonshotai",
    "moonshotai": "moonshotai",
    "minimax": "minimax",
    "zai": "zai",
    "voyage": "voyageai",
    "cloudflare": "cloudflare",
    "github_copilot": "github-copilot",
}
# Amazon's names of models: us.anthropic.claude-opus-5-v1:0
AMAZON = re.compile(
    r"(?:(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|global)\.)?"
    r"(?P<maker>anthropic|amazon|meta|mistral|cohere|deepseek|openai|qwen|nvidia|google|moonshotai"
    r"|zai|ai21)\.(?P<name>.+)"
)
# What is added to a name for one build of the model.
BUILD = re.compile(
    r"(?:[-@]20\d\d-?[01]\d-?[0-3]\d|[-@]latest|@default|-v\d+(?::\d+)?|:\d+|-00\d)$"
)
# Only their makers and those who resell them have these, so a strange prefix is a proxy's. Others
# anybody may run, at a price that no list knows.
CLOSED = re.compile(r"(?:gpt-(?!oss)|chatgpt-|o[134](?:-|$)|claude-|gemini-|grok-)")


class Name(NamedTuple):
    """A name, and who sells what is called so; None: whoever made it."""

    seller: str | None
    model: str


def names_of(model: str) -> Iterator[Name]:
    """The names under which a list may have it, each once."""
    said: set[Name] = set()
    for seller, path in _paths(model.strip().casefold()):
        for build in builds(path):
            name = Name(seller, build)
            if name not in said and not _given_away(name):
                said.add(name)
                yield name


def builds(name: str) -> Iterator[str]:
    """The name, and shorter ones without what tells one build from another."""
    yield name
    while (shorter := BUILD.sub("", name)) != name and shorter:
        name = shorter
        yield name


def _given_away(name: Name) -> bool:
    """Whether its maker sells no answers of it: ``openai/gpt-oss-20b`` runs anywhere."""
    return name.seller in (None, "openai") and name.model.startswith("gpt-oss")


def _paths(name: str) -> Iterator[Name]:
    """The whole name, then what is left of it without prefixes."""
    *before, last = [part for part in name.split("/") if part] or [""]
    amazon = AMAZON.fullmatch(last)
    seller, rest = _seller(before, last)
    if amazon and seller in (None, "aws"):
        yield Name("aws", last)
    if seller:
        yield Name(seller, rest)
        yield Name(seller, last)
    if amazon:
        last = amazon["name"]
        yield Name(SELLERS.get(amazon["maker"], "aws"), last)
    if not before or CLOSED.match(last):
        yield Name(None, last)


def _seller(before: list[str], last: str) -> tuple[str | None, str]:
    """Who sells it, by the first prefix that says so, and what stands after that prefix."""
    for at, part in enumerate(before):
        if part in SELLERS:
            return SELLERS[part], "/".join([*before[at + 1 :], last])
    if before[:1] == ["models"]:  # as Google's API calls its own
        return "google", last
    return None, last
