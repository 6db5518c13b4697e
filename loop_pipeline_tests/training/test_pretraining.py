from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
import torch

from loop_pipeline.training import pretraining
from loop_pipeline.training.base_model import pretrain_tiny
from loop_pipeline.training.endings import cut_short, ending
from loop_pipeline_tests.training.conftest import (
    CONFIG,
    colour_rows,
    make_tiny_things_smaller,
    silent,
    write_set,
)

pytestmark = pytest.mark.slow  # imports the training libraries, which takes seconds

MORE = {"base_tokens": 60_000, "patience": 3}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_things_smaller(monkeypatch)


def made(tmp_path: Path, validation: list[dict[str, Any]], **recipe: Any) -> dict[str, Any]:
    folder = write_set(tmp_path / "set", colour_rows(0, 64), validation)
    config = CONFIG.model_copy(update=MORE | recipe)
    return pretrain_tiny(folder, tmp_path / "base", config, silent)


def test_it_ends_when_the_validation_loss_stops_falling_and_keeps_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation answers are others than the training ones: the more it learns, the worse."""
    rows = colour_rows(65, 16)
    wrong = [{**row, "completion": rows[i - 1]["completion"]} for i, row in enumerate(rows)]
    looked: list[tuple[int, torch.Tensor]] = []
    look = pretraining._Best.look

    def watch(self: Any, model: Any, step: int) -> None:
        look(self, model, step)
        looked.append((step, model.model.norm.weight.detach().clone()))

    monkeypatch.setattr(pretraining._Best, "look", watch)
    saved: list[torch.Tensor] = []
    fit = pretraining.fit

    def keep(model: Any, *rest: Any) -> dict[str, Any]:
        meta = fit(model, *rest)
        saved.append(model.model.norm.weight.detach().clone())
        return meta

    monkeypatch.setattr("loop_pipeline.training.base_model.fit", keep)
    meta = made(tmp_path, wrong)
    assert meta["ended_by"] == "validation loss"
    assert meta["steps"] < meta["steps_planned"]
    steps = [step for step, _ in looked]
    assert steps[-1] == meta["steps"]
    assert steps.index(meta["best_step"]) == len(steps) - 1 - MORE["patience"]
    assert torch.equal(saved[0], dict(looked)[meta["best_step"]])


def test_otherwise_it_ends_with_its_steps(tmp_path: Path) -> None:
    meta = made(tmp_path, colour_rows(64, 16), patience=20)
    assert (meta["ended_by"], meta["steps"]) == ("steps", meta["steps_planned"])
    assert meta["validation_loss"] < 0.5
    assert cut_short([ending("base model", meta)]) == ""


def test_without_validation_rows_the_steps_decide(tmp_path: Path) -> None:
    meta = made(tmp_path, [])
    assert (meta["ended_by"], meta["validation_loss"]) == ("steps", None)


def test_a_clock_that_ends_it_is_said_with_the_step(tmp_path: Path) -> None:
    meta = made(tmp_path, colour_rows(64, 16), max_minutes=1e-4)
    assert meta["ended_by"] == "clock"
    assert meta["steps"] < meta["steps_planned"]
    said = cut_short([ending("base model", meta, str(tmp_path / "base"))])
    assert f"the base model at step {meta['steps']} of {meta['steps_planned']}" in said


def test_how_busy_the_machine_is_changes_nothing_but_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate follows the steps and never the clock."""
    from safetensors.torch import load_file

    made(tmp_path / "idle", colour_rows(64, 16))
    now = pretraining.time.monotonic

    class Slow:
        @staticmethod
        def monotonic() -> float:
            return 50 * now()

    monkeypatch.setattr(pretraining, "time", Slow)
    made(tmp_path / "busy", colour_rows(64, 16))
    idle, busy = (
        load_file(tmp_path / name / "base" / "model.safetensors") for name in ("idle", "busy")
    )
    assert all(torch.equal(idle[name], busy[name]) for name in idle)
