"""What a training run may vary: one schema for the training process and the Launchpad form.

A *profile* is a set of defaults, nothing else; ``tiny`` differs from the 7B ones by numbers only.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

# Of an answer, wherever a student answers.
MAX_ANSWER_TOKENS = 64

Profile = Literal["tiny", "smollm2-135m", "qwen2.5-7b", "qwen3-8b"]


class QLoRAConfig(BaseModel):
    """Recipe of one QLoRA run. Key names and order follow TRL and the alignment handbook."""

    profile: Profile = Field("tiny", description="Where the other defaults come from.")
    base_model: str = Field("", description="Hub id or folder; empty: the base made by this run.")
    max_length: int = Field(256, gt=8, description="Tokens of prompt and completion; more is cut.")
    lora_r: int = Field(16, gt=0, description="Rank of the adapter.")
    lora_alpha: int = Field(32, gt=0, description="Scale of the adapter (alpha / r).")
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="Share of the steps.")
    num_train_epochs: float = Field(1.0, gt=0)
    per_device_train_batch_size: int = Field(64, gt=0)
    gradient_accumulation_steps: int = Field(1, gt=0)
    logging_steps: int = Field(10, gt=0)
    save_steps: int = Field(20, gt=0, description="Steps between two checkpoints.")
    max_minutes: float = Field(6.0, gt=0, description="Time for base and adapter, each at most.")
    seed: int = Field(0, ge=0)

    @classmethod
    def from_profile(cls, name: Profile, **overrides: Any) -> QLoRAConfig:
        """Build the recipe of a profile.

        Args:
            name: One of the profiles.
            **overrides: Fields that differ from the profile's defaults.

        Raises:
            pydantic.ValidationError: if the profile or a field is unknown or out of range.
        """
        return cls.model_validate({"profile": name, **PROFILES.get(name, {}), **overrides})


# QLoRA's and "LoRA without regret"'s settings for 7-8B: all linear layers, lr about 10x full
# fine-tuning, effective batch of 16.
_LARGE: dict[str, Any] = {
    "max_length": 2048,
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
