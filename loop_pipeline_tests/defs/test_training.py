"""The base model's asset: what is made already is not made again."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from loop_pipeline.defs.resources import Loop, TrainingProcess
from loop_pipeline.defs.training import base_model
from loop_pipeline.settings import load_settings


@pytest.mark.parametrize("ended_by", ["steps", "clock"])
def test_a_finished_base_is_reused_without_a_training_process(
    store_url: str,
    ended_by: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LOOP_TRAIN_PYTHON", "/no/such/python")
    settings = load_settings()
    folder = settings.artifacts / "base" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    meta = {"steps": 7, "steps_planned": 9, "ended_by": ended_by, "validation_loss": 0.5}
    (folder / "meta.json").write_text(json.dumps(meta))
    resources = {"loop": Loop(), "pipes": TrainingProcess()}
    # Held, so that definitions are loaded beside this instance and not an earlier test's.
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([base_model], resources=resources, instance=instance)
    shown = done.asset_materializations_for_node("base_model")[0].metadata
    assert (shown["steps"].value, shown["base"].value) == (7, str(folder))
    assert next(iter(shown)) == "steps", "numbers come first"
    warned = "cut short by max_minutes: the base model at step 7 of 9" in capfd.readouterr().err
    assert warned == (ended_by == "clock")
