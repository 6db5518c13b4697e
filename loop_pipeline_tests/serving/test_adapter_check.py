"""An adapter of another base is found out before a server sees it."""

from __future__ import annotations

import json
import logging
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from loop_pipeline.hashing import file_sha256
from loop_pipeline.serving.adapter_check import (
    CONFIG,
    WEIGHTS,
    flaw,
    misfit,
    remember,
    remember_also,
    remembered,
)
from loop_pipeline.serving.server_errors import ServerError
from loop_pipeline.serving.student_server import StudentServer
from loop_pipeline_tests.serving.examples import write_adapter
from loop_pipeline_tests.serving.stub import Stub


def make_base(folder: Path, hidden: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": hidden}))
    return folder


def make_adapter(folder: Path, base: str, hidden: int) -> Path:
    write_adapter(folder, base=base, hidden=hidden)
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


@pytest.mark.parametrize("damage", ["{", "[]", "null", "3", "", '"a"', "[" * 100_000, "{" * 9])
def test_damaged_notes_are_one_line_and_are_written_anew(tmp_path: Path, damage: str) -> None:
    memory = tmp_path / "adapters.json"
    memory.write_text(damage)
    with pytest.raises(ValueError, match=r"adapters\.json is damaged .* run the job `deploy`") as e:
        remembered(memory)
    assert "\n" not in str(e.value)
    remember_also(memory, {"student-1": "/a/1"})
    assert remembered(memory) == {"student-1": "/a/1"}


@pytest.mark.parametrize("folder", [None, 5, [], {"a": 1}, True])
def test_a_note_of_another_type_costs_that_adapter(
    tmp_path: Path, folder: object, caplog: pytest.LogCaptureFixture
) -> None:
    memory = tmp_path / "adapters.json"
    memory.write_text(json.dumps({"student-1": folder, "student-2": "/a/2"}))
    with caplog.at_level(logging.WARNING):
        assert remembered(memory) == {"student-2": "/a/2"}
    assert "student-1 names no folder" in caplog.text


def header_says(entry: object) -> bytes:
    text = json.dumps(entry).encode()
    return struct.pack("<Q", len(text)) + text


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def shorten(name: str, by: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-by])


def in_the_way(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


SPOILT = [
    (write(WEIGHTS, b""), "cut off or no .safetensors file (0 bytes)"),
    (write(WEIGHTS, b"\x00" * 4), "cut off"),
    (write(WEIGHTS, b"\xff" * 8), "cut off"),
    (write(WEIGHTS, b"\x00" * 64), "cut off"),
    (write(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "cut off"),
    (shorten(WEIGHTS, 1), "is cut off: it has"),
    (shorten(WEIGHTS, 64), "is cut off: it has"),
    (write(WEIGHTS, header_says([])), "is damaged: no JSON object"),
    (write(WEIGHTS, header_says({})), "holds no weights"),
    (write(WEIGHTS, header_says({"a": 1})), "damaged header"),
    (write(WEIGHTS, header_says({"a": {"data_offsets": None}})), "damaged header"),
    (write(WEIGHTS, struct.pack("<Q", 5) + b"{{{{{"), "is damaged"),
    (lambda folder: (folder / WEIGHTS).unlink(), "cannot be read (No such file"),
    (in_the_way(WEIGHTS), "cannot be read (Is a directory"),
    (write(CONFIG, b"{"), "is damaged"),
    (write(CONFIG, b""), "is damaged"),
    (write(CONFIG, b"\xff\xfe"), "is damaged"),
    (write(CONFIG, b"[]"), "no JSON object"),
    (write(CONFIG, b'"text"'), "no JSON object"),
    (write(CONFIG, b"[" * 100_000), "is damaged"),
    (write(CONFIG, b'{"peft_type": "IA3"}'), "no LoRA adapter"),
    (write(CONFIG, b'{"r": "eight"}'), "no LoRA adapter"),
    (write(CONFIG, b'{"r": 0}'), "no LoRA adapter"),
    (lambda folder: (folder / CONFIG).unlink(), "is missing or empty"),
    (in_the_way(CONFIG), "is missing or empty"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILT)
def test_a_damaged_adapter_is_refused_in_one_sentence_before_a_server_sees_it(
    stub: Stub, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    adapter = make_adapter(tmp_path / "a", "/gone/base", 64)
    assert flaw(adapter) is None
    spoil(adapter)
    found = flaw(adapter)
    assert found is not None
    assert says in found
    assert str(adapter) in found
    assert "\n" not in found
    with pytest.raises(ServerError, match="'student-9' is not loaded: "):
        StudentServer(stub.url).load("student-9", adapter)
    assert stub.asked == []


def test_a_file_or_a_dangling_link_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        assert "is no folder of an adapter" in (flaw(tmp_path / name) or "")
    assert flaw(tmp_path / "elsewhere") is None, "a folder of another machine"


def test_only_the_weights_and_the_settings_that_were_approved_are_loaded(
    stub: Stub, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "a", "/gone/base", 64)
    sha256, config = file_sha256(adapter / WEIGHTS), file_sha256(adapter / CONFIG)
    name = f"student-{sha256[:12]}"
    assert flaw(adapter, sha256, config) is None
    StudentServer(stub.url).load(name, adapter)
    assert stub.adapters == {name: str(adapter)}
    stub.adapters.clear()
    content = bytearray((adapter / WEIGHTS).read_bytes())
    content[-7] ^= 1
    (adapter / WEIGHTS).write_bytes(content)
    found = flaw(adapter, sha256, config) or ""
    assert f"{adapter / WEIGHTS} is not the file of checkpoint {sha256[:12]}" in found
    with pytest.raises(ServerError, match=f"'{name}' is not loaded: .*checkpoint {sha256[:12]}"):
        StudentServer(stub.url).load(name, adapter)
    assert stub.adapters == {}
    content[-7] ^= 1
    (adapter / WEIGHTS).write_bytes(content)
    (adapter / CONFIG).write_text(json.dumps({"lora_alpha": 9_000}))
    assert "adapter_config.json is not the file" in (flaw(adapter, sha256, config) or "")


def test_a_damaged_base_is_said(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", 64)
    adapter = make_adapter(tmp_path / "a", str(base), 64)
    (base / "config.json").write_text("{")
    assert "cannot be compared with its base" in (misfit(adapter, str(base)) or "")
