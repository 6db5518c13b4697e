from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from loop_pipeline.training import base_model as base
from loop_pipeline.training.qlora.load_model import load_quantised, resolve_base
from loop_pipeline_tests.training.conftest import CONFIG

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds


def test_the_base_is_made_once(work: Path):
    lines: list[str] = []
    before = (work / "base" / "model.safetensors").stat().st_mtime_ns
    meta = base.pretrain_tiny(work / "set", work / "base", CONFIG, lines.append)
    assert meta["rows"] == 64
    assert "reused" in lines[0]
    assert (work / "base" / "model.safetensors").stat().st_mtime_ns == before


def test_the_served_base_equals_the_one_trained_on(work: Path):
    tokens = AutoTokenizer.from_pretrained(work / "base")("sea number 1", return_tensors="pt")
    served = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    quantised = load_quantised(str(work / "base"))
    with torch.no_grad():
        gap = (served(**tokens).logits - quantised(**tokens).logits).abs().max()
        spread = served(**tokens).logits.std()
    assert gap < 0.02 * spread


def test_an_evaluation_does_not_stop_the_gradient(work: Path):
    """Processors with AVX512-BF16 would pack the weights for it, and packed ones pass none on."""
    model = load_quantised(str(work / "base"))
    tokens = AutoTokenizer.from_pretrained(work / "base")("sea number 1", return_tensors="pt")
    embedded = model.get_input_embeddings()(tokens["input_ids"]).detach()  # pyright: ignore

    def gradient() -> torch.Tensor:
        given = embedded.clone().requires_grad_()
        model.train()(inputs_embeds=given).logits.square().mean().backward()
        assert given.grad is not None
        return given.grad

    before = gradient()
    with torch.no_grad():
        model.eval()(**tokens)
    assert torch.allclose(gradient(), before, rtol=1e-3, atol=1e-7)


def test_an_unfinished_base_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no finished base model: config\.json is missing"):
        resolve_base(CONFIG, tmp_path)


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _other_json(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"name": "dataset"}))


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("name: dataset")


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def _no_template(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)


def _no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_weights, "it has no .*safetensors weights"),
        (_other_json, "config.json names no model_type"),
        (_no_json, "no model's configuration"),
        (_adapter, "is an adapter; base_model must be the model"),
        (_no_template, "no chat template; use a chat one"),
        (_no_tokenizer, "no readable tokenizer"),
    ],
)
def test_a_folder_that_is_no_base_is_refused(
    work: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
):
    folder = tmp_path / "base"
    shutil.copytree(work / "base", folder)
    config = CONFIG.model_copy(update={"base_model": str(folder)})
    assert resolve_base(config, tmp_path) == str(folder)
    spoil(folder)
    with pytest.raises(ValueError, match=words):
        resolve_base(config, tmp_path)


def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id(tmp_path: Path):
    config = CONFIG.model_copy(update={"base_model": str(tmp_path / "models" / "mine")})
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        resolve_base(config, tmp_path)
