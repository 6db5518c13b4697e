"""LangChain's own integration tests of a chat model, against ``BASE_URL``.

Runs in the environment of the client suites, not in the project's.
"""

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestThroughTheGateway(ChatModelIntegrationTests):
    """`ChatOpenAI` with another ``base_url``."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """The client."""
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Where it goes."""
        return {
            "base_url": os.environ["BASE_URL"],
            "api_key": "none",
            "model": "scripted",
            "stream_usage": True,
        }
