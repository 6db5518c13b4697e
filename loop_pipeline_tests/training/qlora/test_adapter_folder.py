from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from loop_pipeline.artifacts import run_folder
from loop_pipeline.recipe import QLoRAConfig
from loop_pipeline.store.mlflow_log.run_record import RunRecord
from loop_pipeline.store.tracking import Tracking
from loop_pipeline.training.qlora.adapter_folder import (
    base_identity,
    deliver_buffered,
    finish,
    read_meta,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_base_is_named_by_its_content(base: Path, tmp_path: Path):
    moved = shutil.copytree(base, tmp_path / "elsewhere")
    (moved / "meta.json").write_text("{}")  # not of the model
    assert base_identity(str(moved)) == base_identity(str(base))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_another_base_has_another_name(base: Path, file: str):
    named = base_identity(str(base))
    (base / file).write_bytes(b"other weights")
    assert base_identity(str(base)) != named


def test_what_is_no_base_or_no_adapter_is_refused(base: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"is no finished adapter: meta\.json is missing"):
        read_meta(tmp_path)
    (base / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="is no base model"):
        base_identity(str(base))


def test_an_adapter_has_no_version_before_its_record_has_arrived(base: Path, tmp_path: Path):
    down = Tracking(tracking_uri="http://127.0.0.1:9")
    run = tmp_path / "run"
    adapter = run / "adapter"
    adapter.mkdir(parents=True)
    record = RunRecord(down, run)
    record.begin("sft", {})
    record.metrics({"loss": 1.0}, 1)
    record.status("FINISHED")
    meta = finish(record, adapter, {"adapter_sha256": "s"})
    assert (meta["model_version"], meta["mlflow_run_id"]) == (None, None)
    assert meta["mlflow_missing"].startswith("1 x run, 1 x metrics, 1 x status; MLflow at http")
    assert read_meta(adapter) == meta
    assert deliver_buffered(run, down)["model_version"] is None

    back = Tracking(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    meta = deliver_buffered(run, back)
    assert (meta["model_version"], meta["mlflow_missing"]) == ("1", "")
    assert deliver_buffered(run, back) == meta == read_meta(adapter)
    client = MlflowClient(back.tracking_uri)
    assert client.get_model_version(back.registered_model, "1").run_id == meta["mlflow_run_id"]
    assert client.get_run(meta["mlflow_run_id"]).data.metrics == {"loss": 1.0}
    files = {f.path for f in client.list_artifacts(meta["mlflow_run_id"], "adapter")}
    assert files == {"adapter/meta.json"}


def test_another_recipe_never_writes_where_an_adapter_lies(tmp_path: Path):
    recipe = QLoRAConfig.from_profile("tiny")
    lies = run_folder(tmp_path, "d" * 64, recipe)
    assert run_folder(tmp_path, "d" * 64, recipe.model_copy(update={"max_minutes": 1.0})) == lies
    assert run_folder(tmp_path, "d" * 64, recipe.model_copy(update={"seed": 1})) != lies
    assert run_folder(tmp_path, "e" * 64, recipe) != lies
