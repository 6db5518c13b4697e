"""Every setting in one schema: ``LOOP_*`` variables, ``loop.yaml`` here and in the home folder.

Not here: what a training varies (``recipe.py``).
"""

from __future__ import annotations

import datetime as dt
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from loop_pipeline.costs.cost_settings import CostSettings
from loop_pipeline.installation_secret import installation_secret
from loop_pipeline.recipe import Profile, QLoRAConfig
from loop_pipeline.setting_errors import (
    misspelt_variables,
    secrets_in_files,
    wrong_settings,
    wrong_yaml,
)
from loop_pipeline.setting_parts.gateway_settings import GatewaySettings, split_urls, web_addresses
from loop_pipeline.setting_parts.promise_settings import PromiseSettings


class LoopSettings(GatewaySettings, CostSettings, PromiseSettings):
    """What a deployment chooses. Secrets come from the environment only and are never logged."""

    model_config = SettingsConfigDict(env_prefix="LOOP_", extra="forbid")

    home: Path = Field(Path(".loop"), description="Folder for everything the loop writes.")
    title: str = Field("The loop", description="Heading of the report.")
    notes: list[str] = Field([], description="Sentences that every report must carry.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the home folder.")
    dagster_url: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL for Dagster's storage, from the environment only; empty: SQLite.",
    )
    mlflow_tracking_uri: str = Field("", description="Empty: SQLite in the home folder.")
    first_day: dt.date = Field(dt.date(2026, 1, 1), description="First day of the partitions.")
    train_python: Path = Field(Path(sys.executable), description="Interpreter that trains.")
    train_processes: int = Field(
        0, ge=0, description="Processes that train one adapter together; 0: one for each GPU."
    )
    serve_python: Path = Field(
        Path(".venv-serve/bin/python"), description="Interpreter that has vLLM."
    )
    vllm_url: str = Field(
        "http://127.0.0.1:8199",
        description="The student's vLLM server; several replicas are separated by commas.",
    )
    serving_driver: Literal["url", "kubernetes"] = Field(
        "url", description="Where the replicas are listed: in LOOP_VLLM_URL or by Kubernetes."
    )
    k8s_api: str = Field("", description="Kubernetes API; empty: the cluster this runs in.")
    k8s_token_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="Bearer token for it; a ca.crt beside it is used.",
    )
    k8s_namespace: str = Field("default", description="Of the vLLM Deployment.")
    k8s_deployment: str = Field("vllm", description="Name of the Deployment and of its Service.")
    rollout: Literal["staged", "direct"] = Field(
        "staged", description="How an approved student replaces another: as a canary, or at once."
    )
    profile: Profile = Field("tiny", description="Base model, adapter recipe and serving flags.")
    recipe_file: Path | None = Field(
        None, description="YAML with a profile and what differs from it; empty: LOOP_PROFILE."
    )
    max_answer_tokens: int = Field(256, gt=0, description="Longest answer of the student.")
    detector_file: Path | None = Field(
        None, description="Detector fitted by `loop fit-detector`; empty: the one shipped."
    )
    encoder: Path | None = Field(
        None, description="Folder of a model that judges uncertain texts; empty: none."
    )
    embedder: str = Field(
        "", description="Folder or URL of a sentence encoder for task groups; empty: none needed."
    )
    embedder_api_key: SecretStr = Field(
        SecretStr(""),
        description="Key of an endpoint, from the environment only; never logged or stored.",
    )
    judge_url: str = Field("", description="OpenAI-compatible API of `loop judge`; empty: none.")
    judge_model: str = Field("", description="The model that judges.")
    judge_api_key: SecretStr = Field(
        SecretStr(""), description="Its key, from the environment only; never logged or stored."
    )
    judge_rate: float = Field(0.02, gt=0, le=1, description="Share of answers it judges.")
    schedules: bool = Field(
        False, description="Schedules and sensors are on unless turned off in Dagster (`loop up`)."
    )
    retrain_every: int = Field(1000, gt=0, description="New validated pairs per retraining.")
    retrain_cooldown_hours: float = Field(24, ge=0, description="Hours between two trainings.")
    bench_data: Path = Field(Path("../shared/data"), description="Folder of the public sets.")

    @field_validator("recipe_file", "detector_file", "encoder", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("vllm_url", "judge_url")
    @classmethod
    def _are_servers(cls, value: str) -> str:
        return web_addresses(value)

    @field_validator("database_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        # Checked here because a driver's own message repeats what may be half of the password.
        if value:
            try:
                host = make_url(value).host or ""
            except (ArgumentError, ValueError):
                host = "@"
            if "@" in host:
                raise ValueError(
                    "no database address; in a password write %40 for @, %2F for /, %3A for :"
                )
        return value

    @property
    def store_url(self) -> str:
        """URL of the loop's own database."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'loop.db'}"

    @property
    def tracking_uri(self) -> str:
        """URL of the MLflow store."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home.absolute() / 'mlflow.db'}"

    def secret(self) -> bytes:
        """The secret of this installation; made in the home folder if there is none yet.

        Raises:
            ValueError: its file is damaged.
        """
        return installation_secret(self.home, self.installation_secret.get_secret_value())

    def embedder_access(self) -> dict[str, str]:
        """What an embedder that is an endpoint may be sent to, and with which key."""
        return {"endpoint": self.embedder, "api_key": self.embedder_api_key.get_secret_value()}

    @property
    def artifacts(self) -> Path:
        """Folder of datasets, base models, adapters and reports."""
        return self.home.absolute() / "artifacts"

    @property
    def vllm_urls(self) -> list[str]:
        """Every replica of LOOP_VLLM_URL; the first is the one that `loop serve` starts."""
        return split_urls(self.vllm_url)

    def recipe(self, **changes: Any) -> QLoRAConfig:
        """The recipe of the next training.

        Args:
            **changes: fields that differ from the file's, or from the profile's.

        Raises:
            ValueError: the file or a change is wrong; names the field.
        """
        if self.recipe_file:
            return QLoRAConfig.from_yaml(self.recipe_file, **changes)
        return QLoRAConfig.from_profile(changes.pop("profile", self.profile), **changes)

    def base_of(self, recipe: QLoRAConfig) -> str:
        """The model that a recipe's adapters belong to: a hub id, or a folder."""
        return recipe.base_model or str(self.artifacts / "base" / recipe.profile)

    @property
    def vllm_log(self) -> Path:
        """What the student's server prints."""
        return self.home.absolute() / "vllm.log"

    def mlflow_target(self) -> dict[str, str]:
        """Where training is recorded, as the training process takes it."""
        return {
            "tracking_uri": self.tracking_uri,
            "artifact_root": str(self.artifacts / "mlflow"),
            "experiment": "loop",
            "registered_model": "loop-student",
            "data": self.title,
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments beat the environment, the environment beats ``loop.yaml``."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, _files())


def _files() -> list[Path]:
    return [Path("loop.yaml"), Path(os.environ.get("LOOP_HOME", ".loop")) / "loop.yaml"]


def load_settings() -> LoopSettings:
    """Read the settings.

    Raises:
        SystemExit: with one line per wrong setting: its name, where it stands, what is wrong. Its
            value is not repeated, it may be a secret.
    """
    fields, files = LoopSettings.model_fields, _files()
    wrong = list(misspelt_variables(os.environ, fields))
    if unreadable := wrong_yaml(files):
        wrong.append(unreadable)
    else:
        secret = [n for n, f in LoopSettings.model_fields.items() if f.annotation is SecretStr]
        wrong += secrets_in_files(files, secret)
        try:
            settings = LoopSettings()  # pyright: ignore[reportCallIssue]
            if not wrong:
                return settings
        except ValidationError as error:
            wrong += wrong_settings(error.errors(), os.environ, fields, files)
        except SettingsError as error:  # a list that is no JSON
            wrong.append(str(error))
    raise SystemExit("wrong settings:\n  " + "\n  ".join(wrong)) from None
