from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest
import yaml
from pydantic import ValidationError

from loop_pipeline.recipe import Profile, QLoRAConfig
from loop_pipeline.settings import load_settings


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


def test_the_form_holds_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from loop_pipeline.defs.training import TrainConfig

    monkeypatch.setenv("LOOP_PROFILE", "qwen3-8b")
    assert TrainConfig().recipe(load_settings()) == QLoRAConfig.from_profile("qwen3-8b")
    form = TrainConfig.model_validate({"profile": "qwen2.5-7b", "lora_r": 8})
    expected = QLoRAConfig.from_profile("qwen2.5-7b", lora_r=8)
    assert form.recipe(load_settings()) == expected
    assert TrainConfig.model_validate(expected.model_dump()).recipe(load_settings()) == expected

    file = tmp_path / "recipe.yaml"
    file.write_text("profile: smollm2-135m\nseed: 3\nlora_r: 64\n")
    monkeypatch.setenv("LOOP_RECIPE_FILE", str(file))
    expected = QLoRAConfig.from_profile("smollm2-135m", seed=3, lora_r=8)
    assert TrainConfig.model_validate({"lora_r": 8}).recipe(load_settings()) == expected
    with pytest.raises(dg.Failure, match="lora_r: Input should be greater than 0"):
        TrainConfig.model_validate({"lora_r": 0}).recipe(load_settings())


def test_it_imports_no_training_library():
    code = (
        "import sys, loop_pipeline.training.qlora.adapter_folder;"
        "import loop_pipeline.evaluation.preference_gate;"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'mlflow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_names_a_profile_and_what_differs(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("profile: qwen3-8b\nlora_r: 8\nmax_usd: 5\nusd_per_hour: 2.5\n")
    config = QLoRAConfig.from_yaml(path)
    assert config == QLoRAConfig.from_profile("qwen3-8b", lora_r=8, max_usd=5, usd_per_hour=2.5)
    path.write_text(yaml.safe_dump(config.model_dump()))
    assert QLoRAConfig.from_yaml(path) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lora_r: many\n", r"recipe.yaml: lora_r: .*given 'many'"),
        ("lora_rank: 8\n", r"recipe.yaml: lora_rank: Extra inputs"),
        ("profile: huge\n", r"recipe.yaml: profile: .*given 'huge'"),
        ("- 8\n", r"recipe.yaml: no fields of a recipe but \[8\]"),
        ("a: b: c\n", r"recipe.yaml is no YAML"),
        ("max_usd: 5\n", r"recipe.yaml: recipe: .*max_usd needs usd_per_hour"),
        ("sweep_trials: 2\n", r"sweep_trials needs sweep_learning_rates or sweep_lora_r"),
        ("sweep_trials: 2\nsweep_lora_r: [8, 64]\n", r"more than lora_r, 16, is not served"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, words: str):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        QLoRAConfig.from_yaml(tmp_path / "recipe.yaml")


def test_money_ends_a_run_before_time_does():
    config = QLoRAConfig.from_profile("tiny", max_minutes=60, max_usd=1, usd_per_hour=4)
    assert config.minutes == 15
    assert config.model_copy(update={"max_usd": 100}).minutes == 60
    assert QLoRAConfig.from_profile("tiny", max_minutes=60).minutes == 60
