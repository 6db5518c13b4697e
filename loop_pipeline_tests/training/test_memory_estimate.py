from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
)

from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.training.memory_estimate import (
    KNOWN,
    Architecture,
    architecture,
    estimate_memory,
    layer_activations,
    read_architecture,
)

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

# Parameters as the models' cards and weights have them.
PUBLISHED = {"smollm2-135m": 134_515_008, "qwen2.5-7b": 7_615_616_512, "qwen3-8b": 8_190_735_360}


@pytest.mark.parametrize("profile", PUBLISHED)
def test_parameters_are_the_published_ones(profile: str):
    shape = KNOWN[profile]
    assert shape.quantised + shape.others == PUBLISHED[profile]


@pytest.mark.parametrize("kind", [Qwen2Config, Qwen3Config, LlamaConfig])
@pytest.mark.parametrize("tied", [True, False])
def test_shapes_are_read_from_a_configuration(kind: Any, tied: bool, tmp_path: Path):
    made = kind(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=128,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made)
    made.save_pretrained(tmp_path)
    shape = architecture(QLoRAConfig.from_profile("tiny"), tmp_path)
    assert shape.quantised + shape.others == model.num_parameters()
    adapted = get_peft_model(model, LoraConfig(r=5, target_modules="all-linear"))
    assert shape.adapter(5) == adapted.get_nb_trainable_parameters()[0]


def test_a_configuration_of_something_else_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no Llama-like decoder: 'num_hidden_layers' is missing"):
        read_architecture({"hidden_size": 8, "num_attention_heads": 2})
    with pytest.raises(ValueError, match="'tiny' has no base yet"):
        architecture(QLoRAConfig.from_profile("tiny"), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="no Llama-like decoder"):
        architecture(QLoRAConfig.from_profile("tiny"), tmp_path)


def test_activations_are_what_a_backward_pass_keeps():
    """Counted on a small model in 32 bits. The mask of a dropout has four bytes there, not one."""
    shape = Architecture(64, 2, 4, 2, 16, 160, 128, tied=True, attention_bias=True)
    made = Qwen2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
        vocab_size=128,
    )
    model = get_peft_model(
        Qwen2ForCausalLM(made), LoraConfig(r=4, lora_dropout=0.1, target_modules="all-linear")
    )
    frozen = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(0, 128, (4, 32))
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        states = model.model.model(input_ids=tokens).last_hidden_state
    masks = 3 * sum(a for a, _ in shape.linears)  # four bytes instead of one
    expected = shape.layers * tokens.numel() * (layer_activations(shape, 4, value=4) + masks)
    assert states.requires_grad
    assert sum(kept.values()) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("profile", "card"), [("qwen2.5-7b", 24), ("qwen3-8b", 24)])
def test_the_large_profiles_fit_a_card_of_24_gb(profile: Any, card: int):
    config = QLoRAConfig.from_profile(profile)
    estimate = estimate_memory(config)
    assert estimate.total < card * 1e9
    whole = config.model_copy(update={"gradient_checkpointing": False})
    assert estimate_memory(whole).activations > 5 * estimate.activations
