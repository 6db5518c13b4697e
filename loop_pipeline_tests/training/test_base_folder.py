from __future__ import annotations

import json
from pathlib import Path

import pytest

from loop_pipeline.training.base_folder import made_before


def test_a_base_is_made_once_its_mark_is_written_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    assert made_before(tmp_path / "nothing") is None
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert made_before(tmp_path) is None, "killed before it was done"
    (tmp_path / "meta.json").write_text(json.dumps({"steps": 3}))
    assert made_before(tmp_path) == {"steps": 3}
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no \*\.safetensors weights"):
        made_before(tmp_path)
