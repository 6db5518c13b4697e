from __future__ import annotations

import subprocess
import sys
from typing import get_args

import dagster as dg
import pytest
from pydantic import ValidationError

from loop_pipeline.training.config import Profile, QLoRAConfig


@pytest.mark.parametrize("name", get_args(Profile))
def test_every_profile_is_a_valid_recipe(name: Profile):
    config = QLoRAConfig.from_profile(name)
    assert config.profile == name
    assert bool(config.base_model) == (name != "tiny")


def test_an_override_beats_the_profile():
    config = QLoRAConfig.from_profile("qwen2.5-7b", lora_r=8)
    assert (config.lora_r, config.learning_rate) == (8, 1e-4)


@pytest.mark.parametrize("wrong", [{"lora_r": 0}, {"learning_rate": -1.0}, {"profile": "huge"}])
def test_a_wrong_value_is_refused(wrong: dict):
    with pytest.raises(ValidationError):
        QLoRAConfig.model_validate(wrong)


def test_it_is_a_dagster_config_and_survives_the_trip():
    class TrainConfig(dg.Config, QLoRAConfig):
        pass

    config = TrainConfig(**QLoRAConfig.from_profile("tiny", seed=7).model_dump())
    assert QLoRAConfig.model_validate(config.model_dump()).seed == 7


def test_it_imports_no_training_library():
    code = (
        "import sys, loop_pipeline.training.config, loop_pipeline.store.tracking;"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'mlflow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
