"""The settings of live traffic: the gateway, its capture and its upstreams.

Not here: all other settings (``settings.py``, which holds these too).
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class GatewaySettings(BaseSettings):
    """What a deployment chooses about live traffic."""

    gateway_host: str = Field(
        "127.0.0.1", description="Where the gateway listens; elsewhere than here it needs keys."
    )
    gateway_port: int = Field(8200, gt=0, lt=65536, description="The gateway's port.")
    gateway_workers: int = Field(
        1, gt=0, description="Processes that share the port; a key's limits hold over all of them."
    )
    gateway_auth: Literal["keys", "passthrough"] = Field(
        "keys",
        description="Keys of `loop keys`, or the client's own provider key, passed through.",
    )
    frontier_urls: str = Field(
        "https://api.openai.com/v1",
        description="OpenAI-compatible upstreams, the first one first, separated by commas.",
    )
    frontier_model: str = Field(
        "", description="What the model `auto` stands for; empty: the policy's frontier."
    )
    frontier_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("LOOP_FRONTIER_API_KEY", "OPENAI_API_KEY"),
        description="Key of these upstreams, from the environment only (or OPENAI_API_KEY).",
    )
    anthropic_urls: str = Field(
        "https://api.anthropic.com/v1", description="Upstreams of /v1/messages, likewise."
    )
    anthropic_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("LOOP_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"),
        description="Their key, from the environment only (or ANTHROPIC_API_KEY).",
    )
    frontier_again_rate: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of shadowed requests that the frontier is asked twice: how often it"
        " agrees with itself.",
    )
    frontier_timeout_s: float = Field(
        600, gt=0, description="Seconds the frontier may take for one answer, all in all."
    )
    student_patience_ms: float = Field(
        2000, gt=0, description="How long a student's answer is waited for before the frontier."
    )
    capture: Literal["on", "required"] = Field(
        "on", description="If traces cannot be written: answer all the same, or refuse."
    )
    capture_sync_ms: float = Field(
        50, ge=0, description="Between two syncs to disk; 0: every answer waits for one."
    )
    spool_max_bytes: int = Field(
        2 * 1024**3, gt=0, description="Of traces that wait for the store; then the oldest go."
    )
    app: str = Field(
        "", description="Groups, students and policies are of this app's traffic; empty: of all."
    )
    blind_hours: float = Field(
        24, gt=0, description="Hours a student may serve without any answer of it being checked."
    )
    installation_secret: SecretStr = Field(
        SecretStr(""),
        description="Keys user hashes and signs policies; empty: made once in the home folder.",
    )

    @field_validator("frontier_urls", "anthropic_urls")
    @classmethod
    def _are_web_addresses(cls, value: str) -> str:
        return web_addresses(value)

    @property
    def frontier_url_list(self) -> list[str]:
        """The frontier's URLs in the order they are tried, without a slash at the end."""
        return split_urls(self.frontier_urls)

    @property
    def anthropic_url_list(self) -> list[str]:
        """The URLs of /v1/messages in the order they are tried."""
        return split_urls(self.anthropic_urls)


def web_addresses(text: str) -> str:
    """The text of a setting as it is, if each part of it is the address of a server.

    Raises:
        ValueError: a part is none. The message does not repeat it, as it may hold a password.
    """
    for number, part in enumerate(split_urls(text), 1):
        try:
            address = urlsplit(part)
            known = address.scheme in {"http", "https"} and address.port != 0 and address.hostname
        except ValueError:
            known = None
        if not known or any(sign in part for sign in " \t\"'{}<>\\"):
            raise ValueError(
                f"part {number} is no address such as https://host/v1; several are written"
                " one after the other with commas between them, without quotes or brackets"
            )
    return text


def split_urls(text: str) -> list[str]:
    """URLs that are separated by commas, without a slash at the end."""
    return [part.strip().rstrip("/") for part in text.split(",") if part.strip()]
