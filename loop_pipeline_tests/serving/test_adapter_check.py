"""An adapter of another base is found out before a server sees it."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from loop_pipeline.serving.adapter_check import misfit, remember, remembered
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline_tests.serving.stub import Stub


def make_base(folder: Path, hidden: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden}))
    return folder


def make_adapter(folder: Path, base: str, hidden: int) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    header = json.dumps({name: {"dtype": "F32", "shape": [8, hidden], "data_offsets": [0, 0]}})
    weights = struct.pack("<Q", len(header)) + header.encode()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def test_its_own_base_fits_also_through_a_link(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", 64)
    (tmp_path / "link").symlink_to(base)
    adapter = make_adapter(tmp_path / "a", str(base), 64)
    assert misfit(adapter, str(base)) is None
    assert misfit(adapter, str(tmp_path / "link")) is None
    assert misfit(tmp_path / "elsewhere", str(base)) is None, "a folder of another machine"


@pytest.mark.parametrize(
    ("named", "root", "hidden", "reason"),
    [
        ("{}/other", "{}/base", 64, "was trained on .*/other"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B-Instruct", 64, "was trained on Qwen/Qwen3-8B"),
        ("/gone/base", "{}/base", 32, "fits a base of hidden size 32, this one has 64"),
        ("Qwen/Qwen3-8B", "{}/base", 32, "hidden size 32"),
    ],
)
def test_another_base_does_not(
    tmp_path: Path, named: str, root: str, hidden: int, reason: str
) -> None:
    make_base(tmp_path / "base", 64)
    make_base(tmp_path / "other", 64)
    adapter = make_adapter(tmp_path / "a", named.format(tmp_path), hidden)
    found = misfit(adapter, root.format(tmp_path))
    assert found is not None
    assert re.search(reason, found)


@pytest.mark.parametrize(
    ("named", "root"),
    [
        ("/gone/base", "{}/base"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B", "/models/qwen"),
        ("Qwen/Qwen3-8B", "{}/base"),
    ],
)
def test_what_cannot_be_told_from_here_is_left_to_the_probe(
    tmp_path: Path, named: str, root: str
) -> None:
    make_base(tmp_path / "base", 64)
    adapter = make_adapter(tmp_path / "a", named, 64)
    assert misfit(adapter, root.format(tmp_path)) is None


def test_the_server_is_not_even_asked(stub: Stub, tmp_path: Path) -> None:
    stub.root = str(make_base(tmp_path / "base", 64))
    adapter = make_adapter(tmp_path / "a", str(make_base(tmp_path / "other", 32)), 32)
    with pytest.raises(ServerError, match=r"serves .*base, but 'student-9' .* was trained on"):
        StudentServer(stub.url).load("student-9", adapter)
    assert stub.asked == []
    assert stub.adapters == {}


def test_what_has_to_be_served_outlives_a_process(tmp_path: Path) -> None:
    memory = tmp_path / "home" / "adapters.json"
    assert remembered(memory) == {}
    remember(memory, {"student-1": "/a/1"})
    assert remembered(memory) == {"student-1": "/a/1"}
    memory.write_text("{")
    with pytest.raises(ValueError, match=r"adapters\.json is damaged .* run the job `deploy`"):
        remembered(memory)
