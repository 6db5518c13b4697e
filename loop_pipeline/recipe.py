"""What a training run may vary: one schema for a file, the Launchpad form and the process.

Not here: how it is trained (``training/qlora``).

A *profile* is a set of defaults, nothing else; ``tiny`` differs from the 7B ones by numbers only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Profile = Literal["tiny", "smollm2-135m", "qwen2.5-7b", "qwen3-8b"]


NOT_THE_ADAPTER = {
    "max_minutes",
    "max_usd",
    "usd_per_hour",
    "logging_steps",
    "save_steps",
    "preference",
}


def is_hub_id(model: str) -> bool:
    """Whether a hub names this model, as in ``Qwen/Qwen3-8B``; else it is a folder."""
    return not Path(model).is_dir() and model.count("/") == 1 and model[0] not in "./~"


class QLoRAConfig(BaseModel):
    """Recipe of one QLoRA run. Key names and order follow TRL and the alignment handbook."""

    model_config = ConfigDict(extra="forbid")

    profile: Profile = Field("tiny", description="Where the other defaults come from.")
    base_model: str = Field("", description="Hub id or folder; empty: the base made by this run.")
    base_tokens: int = Field(
        1_600_000, gt=0, description="Tokens that the base made by this run learns from."
    )
    max_length: int = Field(256, gt=8, description="Tokens of prompt and completion; more is cut.")
    p99_max_length: bool = Field(
        False, description="Cut at the 99th percentile of the set's tokens, if that is less."
    )
    packing: Literal["auto", "bfd", "none"] = Field(
        "auto",
        description="Several rows in one sequence (auto: where flash attention keeps them apart), "
        "or rows of like length side by side within a random step.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations: a third slower, far less memory."
    )
    lora_r: int = Field(16, gt=0, description="Rank of the adapter.")
    lora_alpha: int = Field(32, gt=0, description="Scale of the adapter (alpha / r).")
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps.")
    num_train_epochs: float = Field(1.0, gt=0)
    per_device_train_batch_size: int = Field(16, gt=0)
    gradient_accumulation_steps: int = Field(4, gt=0)
    logging_steps: int = Field(10, gt=0)
    save_steps: int = Field(
        20, gt=0, description="Steps between two checkpoints, each with its validation loss."
    )
    patience: int = Field(
        5, gt=0, description="Evaluations in a row without a lower validation loss: then it ends."
    )
    max_minutes: float = Field(
        60.0,
        gt=0,
        description="Time for base, adapter and preference stage, each at most: a safety, far above"
        " what they need.",
    )
    max_usd: float | None = Field(
        None, gt=0, description="What the adapter may cost; needs usd_per_hour."
    )
    usd_per_hour: float = Field(0.0, ge=0, description="Price of the training machine.")
    preference: Literal["none", "auto"] = Field(
        "none", description="auto: a second adapter by DPO or KTO, if there is data for it."
    )
    sweep_trials: int = Field(
        0, ge=0, description="Adapters to train, the best by validation loss is kept; 0: no sweep."
    )
    sweep_learning_rates: list[float] = Field([], description="Of a sweep; empty: the one above.")
    sweep_lora_r: list[int] = Field([], description="Of a sweep; empty: the one above.")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.max_usd is not None and not self.usd_per_hour:
            raise ValueError("max_usd needs usd_per_hour: what does the training machine cost?")
        if self.sweep_trials and not (self.sweep_learning_rates or self.sweep_lora_r):
            raise ValueError("sweep_trials needs sweep_learning_rates or sweep_lora_r")
        if any(rank > self.lora_r for rank in self.sweep_lora_r):
            raise ValueError(f"sweep_lora_r: more than lora_r, {self.lora_r}, is not served")
        return self

    def of_the_adapter(self) -> dict[str, Any]:
        """The fields that decide which adapter comes out, not how long or how watched a run is."""
        return self.model_dump(exclude=NOT_THE_ADAPTER)

    @property
    def minutes(self) -> float:
        """What a run may take: ``max_minutes``, or less if the money ends first."""
        if self.max_usd is None:
            return self.max_minutes
        return min(self.max_minutes, 60 * self.max_usd / self.usd_per_hour)

    @property
    def limited_by(self) -> Literal["clock", "money"]:
        """Which of the two ends first."""
        return "money" if self.minutes < self.max_minutes else "clock"

    @classmethod
    def from_profile(cls, name: Profile, **overrides: Any) -> Self:
        """Build the recipe of a profile.

        Args:
            name: One of the profiles.
            **overrides: Fields that differ from the profile's defaults.

        Raises:
            pydantic.ValidationError: if the profile or a field is unknown or out of range.
        """
        return cls.model_validate({"profile": name, **PROFILES.get(name, {}), **overrides})

    @classmethod
    def from_yaml(cls, path: Path, **overrides: Any) -> Self:
        """Read a recipe: ``profile`` and the fields that differ from it.

        Args:
            path: the file.
            **overrides: Fields that differ from the file's.

        Raises:
            ValueError: the file is no such mapping; names the file, each wrong field and its value.
        """
        try:
            fields = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8: {error}") from error
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no YAML: {error}") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{path}: no fields of a recipe but {fields!r:.60}")  # noqa: TRY004
        fields |= overrides
        try:
            return cls.from_profile(**{"name": fields.pop("profile", "tiny"), **fields})
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}, given {e['input']!r:.60}"
                for e in error.errors()
            )
            raise ValueError(f"{path}: {wrong}") from error


# QLoRA's and "LoRA without regret"'s settings for 7-8B: all linear layers, lr about 10x full
# fine-tuning, effective batch of 16.
_LARGE: dict[str, Any] = {
    "max_length": 2048,
    "p99_max_length": True,
    "gradient_checkpointing": True,
    "lora_r": 32,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "learning_rate": 1e-4,
    "warmup_ratio": 0.03,
    "num_train_epochs": 2.0,
    "save_steps": 100,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "max_minutes": 600.0,
}
PROFILES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "smollm2-135m": {
        **_LARGE,
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "learning_rate": 5e-4,
        "max_minutes": 120.0,
    },
    "qwen2.5-7b": {**_LARGE, "base_model": "Qwen/Qwen2.5-7B-Instruct"},
    "qwen3-8b": {**_LARGE, "base_model": "Qwen/Qwen3-8B"},
}
