from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("trl")
from loop_pipeline.training.qlora.resume import (
    explain_failed_save,
    last_complete_checkpoint,
    mark_complete,
    prepare,
)
from loop_pipeline_tests.training.conftest import silent

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds


def checkpoint(parent: Path, step: int, *, whole: bool) -> Path:
    folder = parent / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "optimizer.pt").write_bytes(b"x" * 4)
    mark_complete(folder, 1.5 * step)
    if not whole:
        (folder / "optimizer.pt").write_bytes(b"xx")
    return folder


def test_a_checkpoint_with_a_short_file_is_skipped(tmp_path: Path):
    good, bad = checkpoint(tmp_path, 8, whole=True), checkpoint(tmp_path, 16, whole=False)
    assert last_complete_checkpoint(tmp_path, silent) == (str(good), 12.0)
    assert not bad.exists()


def test_a_failed_save_says_where_it_goes_on(tmp_path: Path):
    checkpoint(tmp_path, 8, whole=True)
    assert explain_failed_save(tmp_path, ValueError("another fault")) is None
    (tmp_path / "checkpoint-16").mkdir()
    error = explain_failed_save(tmp_path, RuntimeError("No space left on device\nmore"))
    assert "checkpoint-16 could not be written (No space left on device;" in str(error)
    assert str(error).endswith("it goes on from checkpoint-8")


def test_what_another_recipe_left_is_forgotten(tmp_path: Path):
    adapter = tmp_path / "run" / "adapter"
    assert prepare(tmp_path / "run", "a", silent) is None
    adapter.mkdir()
    (adapter / "meta.json").write_text(json.dumps({"adapter_sha256": "1"}))
    assert prepare(tmp_path / "run", "a", silent) == {"adapter_sha256": "1"}
    lines: list[str] = []
    assert prepare(tmp_path / "run", "b", lines.append) is None
    assert "starting over" in lines[0]
    assert not adapter.exists()
